"""Callbacks for the frameworks that train: each watches the run, and hands its numbers to the user's own loggers."""
