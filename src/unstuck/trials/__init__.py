"""Remedies tried from the very state the run is in, each against going on as before."""
