"""What unstuck is measured against: oracles for its numbers, peers and plain gradients for its speed.

Run `python -m benchmarks` for all, or name some: `python -m benchmarks products accuracy`. Each prints tables of
ratios, and with `--write` leaves them in `benchmarks/results/`. Times are CPU times of one thread.
"""
