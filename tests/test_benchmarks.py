"""The benchmarks can be imported without the peers they compare with, and say what they measure."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__main__")
PEERS = ("curvlinops", "hessian_eigenthings", "pyhessian", "sklearn", "transformers")


@pytest.fixture(autouse=True)
def no_peers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    for name in [*sys.modules]:
        if name.partition(".")[0] in {*PEERS, "benchmarks"}:
            monkeypatch.delitem(sys.modules, name)
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_imports_without_peers_and_says_what_it_measures(name):
    module = importlib.import_module(f"benchmarks.{name}".removesuffix(".__init__"))
    assert module.__doc__


def test_every_benchmark_that_can_be_named_is_there():
    main = importlib.import_module("benchmarks.__main__")
    for name in main.NAMES:
        assert callable(importlib.import_module(f"benchmarks.{name}").run)
