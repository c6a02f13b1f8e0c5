"""Packages that judge trainings, each in the use that its README shows, on the labelled trainings."""
