"""Run benchmarks by name, or all."""

import argparse
import importlib
import sys
import warnings

import torch

from benchmarks.tables import write

# Where a benchmark is; with `--write` its name is that of the file.
MODULES = {
    "accuracy": "accuracy",
    "products": "products",
    "peers": "peers.spectrum",
    "peers-surface": "peers.surface",
    "peers-noise": "peers.noise",
    "peers-recorder": "peers.recorder",
    "cost": "cost",
    "large": "large",
    "escape": "escape",
    "recording": "recording",
    "optim": "optim",
}

# What may be asked of one, in the order in which its `run` takes it.
CHOICES = {
    "peers": ("workloads", "questions", "peers"),
    "peers-surface": ("workloads", "questions", "peers"),
    "peers-noise": ("workloads", "peers"),
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main() -> None:
    """Run what was asked for; print its tables, and write them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], help=f"which: {', '.join(MODULES)}")
    parser.add_argument("--workloads", type=_words, help="`peers…`: only these, such as a,b")
    parser.add_argument(
        "--questions",
        type=_words,
        help="`peers`: only these of sign,five,density,all; `peers-surface`: of line,plane,hessian",
    )
    parser.add_argument("--peers", type=_words, help="`peers…`: only these, such as PyHessian")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ImportWarning)
    for name in arguments.names or MODULES:
        module = importlib.import_module(f"benchmarks.{MODULES[name]}")
        chosen = [getattr(arguments, choice) for choice in CHOICES.get(name, ())]
        tables = module.run(*chosen)
        print("\n".join(map(str, tables)), flush=True)
        if arguments.write:
            path = write(name, module.__doc__, tables, part=any(chosen))
            print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
