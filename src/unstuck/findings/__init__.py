"""From records to causes: pure functions, no tensors."""
