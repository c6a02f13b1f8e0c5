"""Following a training while it runs."""
