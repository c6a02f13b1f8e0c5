"""What it costs to look at large trainings, and that several processes see what one sees."""
