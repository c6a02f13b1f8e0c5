"""What `unstuck batch` recommends, against tuning every size by hand: `python -m benchmarks.batch`."""
