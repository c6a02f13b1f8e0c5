"""Which batch size: time, noise, and branches of the run at several sizes, measured on the user's own model."""
