"""The benchmarks can be imported without the peers they compare with, and say what they measure."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress

ROOT = Path(__file__).parents[1]
FILES = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks" / "peers").glob("*.py")]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES if path.stem != "__main__"
)
PEERS = (
    "cockpit",
    "curvlinops",
    "gns_pytorch",
    "hessian_eigenthings",
    "landscaper",
    "loss_landscapes",
    "pyhessian",
    "sklearn",
    "transformers",
)


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
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert module.__doc__


def test_every_benchmark_that_can_be_named_is_there():
    main = importlib.import_module("benchmarks.__main__")
    for module in main.MODULES.values():
        assert callable(importlib.import_module(f"benchmarks.{module}").run)


def test_a_peer_that_is_not_installed_is_left_out_with_a_line_that_says_how_to_get_it(capsys):
    invited = importlib.import_module("benchmarks.peers.invited")
    assert invited.present([invited.GNS, invited.COCKPIT], asked=["gns-pytorch"]) == []
    assert "gns-pytorch is left out" in capsys.readouterr().err


def test_the_exponent_of_a_power_law_is_found_and_its_error_is_that_of_least_squares():
    exponent = importlib.import_module("benchmarks.scale.cost").exponent
    xs = [10.0**power for power in range(2, 8)]
    slope, error = exponent(xs, [3.0 * x**0.7 for x in xs])
    assert slope == pytest.approx(0.7)
    assert error == pytest.approx(0.0, abs=1e-7)
    ys = [x * factor for x, factor in zip(xs, (1.3, 0.8, 1.1, 0.7, 1.2, 1.0), strict=True)]
    oracle = linregress(np.log(xs), np.log(ys))
    assert exponent(xs, ys) == pytest.approx((oracle.slope, oracle.stderr))
