"""Tensors in, records out: what can be measured at the point where a run is."""
