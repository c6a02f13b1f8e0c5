"""One Hessian-vector product, over one plain gradient, in CPU time.

The gradient is the loop that a user would write, `loss.backward()` batch by batch, with whatever attention
kernel PyTorch picks. Every product is one call with a random vector, all batches; what a contestant builds once
(graphs that are kept, an operator) is built before, and its own cost is in the last table. The aim for kept
graphs is 2.2 at most.
"""

import math
import time
from contextlib import ExitStack

import torch
from torch import Tensor

from benchmarks.peers import rivals
from benchmarks.tables import Table
from benchmarks.timing import Contestant, take_turns
from benchmarks.workloads import Workload, workloads
from unstuck.objective.differences import Differences
from unstuck.objective.products import Products

GRADIENT = "gradient"
ROUNDS = 15


def run() -> list[Table]:
    """Time all products on all workloads."""
    found = [_measure(workload) for workload in workloads()]
    names = [name for name in found[0][0] if name != GRADIENT]
    ratios = [
        [name, *(times[name].over(times[GRADIENT]) for times, _, _ in found), *(e[name] for _, e, _ in found)]
        for name in names
    ]
    first = ["gradient, CPU s", *(times[GRADIENT].median for times, _, _ in found), "", "", ""]
    setup = [[workload.key, *cost] for workload, (_, _, cost) in zip(workloads(), found, strict=True)]
    return [
        Table(
            "A product over a gradient",
            ("product", "a", "b", "c", "error a", "error b", "error c"),
            [first, *ratios],
            "Median of the ratios (and quartiles); relative error of the product against float64.",
        ),
        Table(
            "What comes before the first product, over a gradient",
            ("workload", "is autograd to be trusted, and the first graph", "keeping the other graphs"),
            setup,
        ),
    ]


def _measure(workload: Workload) -> tuple[dict, dict, tuple[float, ...]]:
    objective = workload.objective()
    vector = torch.randn(objective.size, generator=torch.Generator().manual_seed(0))
    vector /= vector.norm()
    exact = workload.objective(torch.float64)
    with exact.products(exact.theta, memory=0) as truth:
        wanted = truth(vector.double())
    with ExitStack() as stack:
        stack.enter_context(rivals.setting())
        begun = time.process_time()
        unprepared = objective.products(objective.theta, memory=math.inf)
        trusted = time.process_time()
        retained = stack.enter_context(unprepared)
        setup = trusted - begun, time.process_time() - trusted
        fresh = stack.enter_context(objective.products(objective.theta, memory=0))
        ours = {"unstuck, retained": retained, "unstuck, fresh": fresh, "unstuck, differences": _rough(fresh)}
        everyone = ours | rivals.products(workload)
        errors = {name: _error(product(vector), wanted) for name, product in everyone.items()}
        runs: dict[str, Contestant] = {name: _called(product, vector) for name, product in everyone.items()}
        times = take_turns({GRADIENT: workload.gradient} | runs, rounds=ROUNDS)
    workload.model.zero_grad(set_to_none=True)
    return times, errors, tuple(seconds / times[GRADIENT].median for seconds in setup)


def _rough(products: Products) -> Differences:
    """Give the engine that stands in where autograd cannot differentiate twice."""
    return Differences(products._gradient, products._theta)  # noqa: SLF001


def _called(product: rivals.Product, vector: Tensor) -> Contestant:
    return lambda: product(vector)


def _error(product: Tensor, wanted: Tensor) -> float:
    return float((product.double() - wanted).norm() / wanted.norm())
