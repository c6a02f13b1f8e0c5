"""The command line. Every mistake is one clear line, and standard output holds the answer and nothing else.

What needs PyTorch is imported by the commands when they run: help and usage errors need not wait for it.
"""

from unstuck.cli.entry import main

__all__ = ["main"]
