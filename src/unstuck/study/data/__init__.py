"""Data sets that ship with the studies, each with its licence beside it."""
