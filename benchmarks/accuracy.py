"""Eigenvalues and certificates against the truth.

The truth is a dense Hessian in float64 (a) or SciPy's `eigsh` to 1e-10 (b, c). Asked for to 1e-4 in float64 and
to 1e-2 in float32, the five largest eigenvalues and lambda_min must be as near as that to the truth, and with the
tolerances that nobody sets (1 % and 10 %) as near as those. A certificate says that lambda_min lies above a
bound, with probability 0.99 over the random start: many starts, and how often that was so.
"""

import numpy as np
import torch

from benchmarks.oracle import Truth, truth
from benchmarks.tables import Table
from benchmarks.workloads import Workload, workloads
from unstuck.curvature.records import Question, Spectrum
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator

ASKED = {torch.float64: 1e-4, torch.float32: 1e-2}
STARTS = {"a": 100, "b": 10, "c": 5}


def run() -> list[Table]:
    """Compare on all workloads."""
    return [_eigenvalues(), _defaults(), _certificates()]


def ask(workload: Workload, question: Question, *, dtype: torch.dtype, seed: int = 0) -> Spectrum:
    """Ask unstuck about a workload."""
    objective = workload.objective(dtype)
    with objective.products(objective.theta) as products:
        operator = Operator(products, objective.size, objective.theta, noise=products.noise)
        return spectrum(operator, question, torch.Generator().manual_seed(seed)).spectrum


def _eigenvalues() -> Table:
    rows: list[list[object]] = []
    for workload in workloads():
        for dtype, asked in ASKED.items():
            question = Question(top=5, top_to=asked, tolerance=1e-4, negative_to=asked)
            found = ask(workload, question, dtype=dtype)
            errors = _errors(found, truth(workload))
            held = all(error <= asked for error in errors)
            rows.append([workload.key, str(dtype)[6:], asked, *errors, found.products, held])
    return Table(
        "Extreme eigenvalues to a stated accuracy",
        ("workload", "precision", "asked", "top-5 error", "lambda_min error", "products", "held"),
        rows,
        "Relative errors, each of its own eigenvalue; of the five the largest one.",
    )


def _defaults() -> Table:
    rows: list[list[object]] = []
    for workload in workloads():
        real = truth(workload)
        for seed in range(3):
            found = ask(workload, Question(top=5), dtype=torch.float32, seed=seed)
            top, low = _errors(found, real)
            share = real.lowest / real.values[-1]
            rows.append([workload.key, seed, top, low, float(share), found.products, top <= 0.01])
    return Table(
        "With default tolerances, float32",
        (
            "workload",
            "seed",
            "top-5 error",
            "lambda_min error",
            "lambda_min / lambda_max",
            "products",
            "top held",
        ),
        rows,
        "lambda_min is followed to 10 % unless it is certified above -0.001 lambda_max.",
    )


def _certificates() -> Table:
    rows: list[list[object]] = []
    for workload in workloads():
        real, starts = truth(workload), STARTS[workload.key]
        runs = [
            ask(workload, Question(tolerance=0.1, negative_to=None), dtype=torch.float32, seed=seed)
            for seed in range(starts)
        ]
        floors = sum(run.floor.bound <= real.lowest for run in runs)
        ceilings = sum(run.ceiling.bound >= real.values[-1] for run in runs)
        slack = float(np.median([run.floor.tolerance for run in runs]))
        products = float(np.median([run.products for run in runs]))
        rows.append([workload.key, starts, f"{floors}/{starts}", f"{ceilings}/{starts}", slack, products])
    return Table(
        "Certificates, stated at probability 0.99",
        ("workload", "starts", "floor holds", "ceiling holds", "floor / lambda_max", "products"),
        rows,
        "Median of the floors, as a share of lambda_max, and of the products that they took.",
    )


def _errors(found: Spectrum, real: Truth) -> tuple[float, float]:
    wanted = real.highest(5)
    values = np.array([eigenvalue.value for eigenvalue in found.highest[:5]])
    return float(np.abs(values / wanted - 1).max()), abs(found.lambda_min / real.lowest - 1)
