"""What the graph of a live loss tells without being evaluated: names, shapes and saved tensors are read."""
