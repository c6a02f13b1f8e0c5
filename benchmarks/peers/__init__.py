"""What other packages do too: the same work, on the same networks and data, in turns of the same process.

A module for each kind of work: `spectrum`, `surface`, `noise`, `recorder`. A peer that is not installed is left out,
with a line that says how to install it (`invited`).
"""
