"""List the labelled trainings, prove their labels, or score `diagnose`, its remedies or its peers on them."""

import argparse
import importlib

from benchmarks.causes.catalogue import HALF_OF, HALVES, chosen


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.causes", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, seeds in (("list", 1), ("prove", 2), ("score", 3), ("trials", 1), ("peers", 1)):
        command = commands.add_parser(name)
        command.add_argument("names", nargs="*", help="cases or labels (or peers); all if none is named")
        command.add_argument("--half", choices=tuple(HALVES))
        command.add_argument("--seeds", type=int, default=seeds)
        command.add_argument("--jobs", type=int, default=2)
        command.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/")
        command.add_argument("--verbose", action="store_true", help="print every table")
        command.add_argument(
            "--quick", action="store_true", help="try only the changes that the label asks for"
        )
        command.add_argument(
            "--afresh", action="store_true", help="use nothing that was kept of earlier proofs"
        )
    arguments = parser.parse_args()
    if arguments.command == "list":
        for case in chosen(arguments):
            print(f"{HALF_OF[case.name]:6} {case.cause:20} {case.kind:11} {case.name}: {case.note}")
        return
    module = {"prove": "proof", "score": "score", "trials": "trials", "peers": "peers.scoring"}[
        arguments.command
    ]
    importlib.import_module(f"benchmarks.causes.{module}").main(arguments)


if __name__ == "__main__":
    main()
