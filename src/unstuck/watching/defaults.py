"""What holds unless it is said otherwise; apart from the rest, for the command line knows it without PyTorch."""

# The folder where runs are kept.
FOLDER = "unstuck-runs"

# Share of a run's time that looks at its live graph may take.
SHARE = 0.01
