"""The file of a run and the snapshots beside it: written by a thread of its own, read while it goes on, or later."""
