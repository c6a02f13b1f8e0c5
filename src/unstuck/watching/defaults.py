"""What holds unless it is said otherwise; apart from the rest, for the command line knows it without PyTorch."""

# The folder where runs are kept.
FOLDER = "unstuck-runs"

# Share of a run's time that looks at its live graph may take.
SHARE = 0.01

# Fewer snapshots of the weights show no path, and what all of a run may take on disk.
FEWEST_PLACES, MOST_BYTES = 3, 1_000_000_000
