"""The data by themselves and beside the model: labels, their order, what was kept for validation."""
