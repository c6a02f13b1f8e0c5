"""The loss around a point, for people and for programs."""
