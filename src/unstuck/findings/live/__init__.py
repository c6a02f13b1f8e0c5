"""Why the loss of a live run stands still: checks on its record and on a look at its graph."""
