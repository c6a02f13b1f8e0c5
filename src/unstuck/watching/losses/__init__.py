"""What the curve of a loss tells: whether it has stopped improving, breaks out, or stays far above where it began."""
