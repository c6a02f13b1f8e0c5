"""Run benchmarks by name, or all."""

import argparse
import importlib
import sys
import warnings

import torch

from benchmarks.tables import write

NAMES = ("accuracy", "products", "peers", "cost", "large")


def main() -> None:
    """Run what was asked for; print its tables, and write them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"which: {', '.join(NAMES)}")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ImportWarning)
    for name in arguments.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        tables = module.run()
        print("\n".join(map(str, tables)), flush=True)
        if arguments.write:
            print(f"written to {write(name, module.__doc__, tables)}", file=sys.stderr)


if __name__ == "__main__":
    main()
