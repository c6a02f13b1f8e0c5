"""What is known of batch sizes, for people and for programs."""
