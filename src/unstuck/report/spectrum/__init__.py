"""The spectrum of the curvature, for people and for programs."""
