"""Every contestant's ways to answer a question about the spectrum, and what each way's answer rests on.

A way is *stated* when the contestant's own error estimate or tolerance justifies the answer, *lucky* when the
answer is right but only who knows the truth can know it: the fewest steps, or the loosest tolerance, that
happens to do.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.peers import rivals
from benchmarks.workloads import Workload
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator

Array = npt.NDArray[np.float64]

DOUBT = 4e-5  # a quotient is negative beyond doubt in float32 by this share of lambda_max
ACCURATE = 0.01  # what the largest eigenvalues are asked to
TOP = 5
_LONGEST = 60  # steps of the run that is searched for the fewest that do


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        products: Hessian-vector products that it took.
        values: Eigenvalues, in any order.
        nodes: Of the density, where it was asked for.
        weights: Of the nodes.
    """

    products: int
    values: Array
    nodes: Array | None = None
    weights: Array | None = None

    @property
    def top(self) -> Array:
        """The largest ones, descending."""
        return np.sort(self.values)[::-1][:TOP]


@dataclass(frozen=True)
class Way:
    """One way to ask.

    Attributes:
        who: The contestant.
        how: Its settings.
        grade: "stated", "lucky" or "default".
        ask: Everything from the model and the batches to the answer.
    """

    who: str
    how: str
    grade: str
    ask: Callable[[], Answer]


def unstuck(workload: Workload, question: Question, *, seed: int) -> Answer:
    """Ask us, from the training on."""
    objective = workload.objective()
    with objective.products(objective.theta) as products:
        operator = Operator(products, objective.size, objective.theta, noise=products.noise)
        found = spectrum(operator, question, torch.Generator().manual_seed(seed)).spectrum
    low, high = (np.array([one.value for one in end]) for end in (found.lowest, found.highest))
    density = np.array(found.density.nodes), np.array(found.density.weights)
    return Answer(found.products, np.r_[low, high], *density)


class Eigenthings:
    """Ways of hessian-eigenthings; one long run tells which number of steps would have done."""

    def __init__(self, workload: Workload, *, seed: int) -> None:
        from hessian_eigenthings.algorithms.lanczos import lanczos_tridiagonal

        self._workload, self._seed = workload, seed
        operator = rivals.eigenthings(workload)
        start = torch.randn(operator.size, generator=torch.Generator().manual_seed(seed))
        run = lanczos_tridiagonal(operator, start, _LONGEST, reorthogonalize=True)
        self._alphas, self._betas = run.alphas.double().numpy(), [*run.betas.tolist(), run.last_beta]

    def ritz(self) -> Iterator[tuple[int, Array, Array]]:
        """Give values (ascending) and residuals after each number of steps."""
        for steps in range(1, _LONGEST + 1):
            off = self._betas[: steps - 1]
            matrix = np.diag(self._alphas[:steps]) + np.diag(off, 1) + np.diag(off, -1)
            values, vectors = np.linalg.eigh(matrix)
            yield steps, values, abs(vectors[-1]) * self._betas[steps - 1]

    def sign(self, radius: float) -> list[Way]:
        """Ask for the smallest eigenvalue."""
        stated = next((m for m, values, errors in self.ritz() if values[0] + errors[0] < 0), None)
        lucky = next((m for m, values, _ in self.ritz() if values[0] < -DOUBT * radius), None)
        found = [self._lanczos("SA", 1, None, "default")]
        found += [self._lanczos("SA", 1, stated, "stated")] if stated else []
        return found + ([self._lanczos("SA", 1, lucky, "lucky")] if lucky else [])

    def top(self, wanted: Array) -> list[Way]:
        """Ask for the five largest eigenvalues."""
        enough = [(m, values[::-1], errors[::-1]) for m, values, errors in self.ritz() if m > TOP]
        stated = next(
            m
            for m, values, errors in enough
            if (errors[:TOP] < ACCURATE * abs(values[:TOP])).all() and near(values[:TOP], wanted)
        )
        lucky = next(m for m, values, _ in enough if near(values[:TOP], wanted))
        return [
            self._lanczos("LA", TOP, None, "default"),
            self._lanczos("LA", TOP, stated, "stated"),
            self._lanczos("LA", TOP, lucky, "lucky"),
        ]

    def density(self, steps: int, runs: int = 1) -> Answer:
        """Ask for the density, and read its raw quadrature."""
        from hessian_eigenthings import spectral_density

        operator = rivals.eigenthings(self._workload)
        found = spectral_density(operator, num_runs=runs, lanczos_steps=steps, seed=self._seed)
        nodes, weights = (
            part.double().flatten().numpy() for part in (found.raw_eigenvalues, found.raw_weights)
        )
        return Answer(steps * runs, nodes, nodes, weights / runs)

    def _lanczos(self, which: str, k: int, steps: int | None, grade: str) -> Way:
        from hessian_eigenthings import lanczos

        def ask() -> Answer:
            operator = rivals.eigenthings(self._workload)
            found = lanczos(operator, k=k, which=which, max_iter=steps, seed=self._seed)
            return Answer(found.iterations, found.eigenvalues.double().numpy())

        return Way("hessian-eigenthings", f"lanczos {which}, {steps or 2 * k} steps", grade, ask)


class Curvlinops:
    """Ways of curvlinops with SciPy's `eigsh`, whose tolerance bounds the residual."""

    def __init__(self, workload: Workload, *, seed: int) -> None:
        self._workload, self._seed = workload, seed

    def sign(self) -> list[Way]:
        """Ask for the smallest eigenvalue: a residual below its size settles the sign."""
        return [self._eigsh("SA", 1, 0.9, vectors, "stated") for vectors in (None, 40)]

    def top(self) -> list[Way]:
        """Ask for the five largest eigenvalues."""
        tight = self._eigsh("LA", TOP, 0, None, "default")
        stated = [self._eigsh("LA", TOP, ACCURATE, vectors, "stated") for vectors in (None, 14)]
        return [tight, *stated, *(self._eigsh("LA", TOP, 0.5, vectors, "lucky") for vectors in (16, 12))]

    def density(self, steps: int, runs: int = 1) -> Answer:
        """Ask for the density: the only form there is, a smooth curve."""
        from curvlinops import lanczos_approximate_spectrum

        count = rivals.Counted()
        operator = count.watch(rivals.curvlinops(self._workload), "_matmat")
        torch.manual_seed(self._seed)
        grid, density = lanczos_approximate_spectrum(operator, steps, num_repeats=runs)
        curve = (part.double().numpy() for part in (grid, density / density.sum()))
        return Answer(count.products, np.zeros(0), *curve)

    def _eigsh(self, which: str, k: int, tolerance: float, vectors: int | None, grade: str) -> Way:
        from scipy.sparse.linalg import eigsh

        def ask() -> Answer:
            count = rivals.Counted()
            operator = count.watch(rivals.curvlinops(self._workload), "_matmat").to_scipy()
            start = np.random.default_rng(self._seed).standard_normal(self._workload.size)
            found = eigsh(
                operator, k, which=which, v0=start, tol=tolerance, ncv=vectors, return_eigenvectors=False
            )
            return Answer(count.products, found)

        how = f"eigsh {which}, tol {tolerance:g}" + (f", ncv {vectors}" if vectors else "")
        return Way("curvlinops", how, grade, ask)


class PyHessian:
    """Ways of PyHessian, which states no error; all examples in one batch, where it is fastest."""

    def __init__(self, workload: Workload, *, seed: int) -> None:
        self._workload, self._seed = workload, seed

    def sign(self) -> Iterator[Way]:
        """Look for a negative node of its density."""
        for steps in (4, 6, 8, 11, 14, 18, 22, 28, 36, 48):
            yield self._way(f"density, {steps} steps", "lucky", lambda steps=steps: self.density(steps))

    def top(self) -> Iterator[Way]:
        """Deflate: the largest in size one after the other."""
        for tolerance, grade in ((1e-1, "lucky"), (3e-2, "lucky"), (1e-2, "lucky"), (1e-3, "default")):
            how = f"power iteration, tol {tolerance:g}"
            yield self._way(how, grade, lambda tolerance=tolerance: self._eigenvalues(tolerance))

    def density(self, steps: int, runs: int = 1) -> Answer:
        """Ask for the density, which is a raw quadrature."""
        nodes, weights = self._built().density(iter=steps, n_v=runs)
        found = np.concatenate(nodes)
        return Answer(steps * runs, found, found, np.concatenate(weights) / runs)

    def _eigenvalues(self, tolerance: float) -> Answer:
        import pyhessian  # noqa: F401

        module = sys.modules["pyhessian.hessian"]  # hidden behind the class of that name
        count, product = rivals.Counted(), module.hessian_vector_product
        count.watch(module, "hessian_vector_product")
        try:
            values, _ = self._built().eigenvalues(top_n=TOP, tol=tolerance)
        finally:
            module.hessian_vector_product = product
        return Answer(count.products, np.array(values))

    def _built(self) -> Any:
        torch.manual_seed(self._seed)
        return rivals.pyhessian_whole(self._workload)

    def _way(self, how: str, grade: str, ask: Callable[[], Answer]) -> Way:
        return Way("PyHessian", how, grade, ask)


def near(values: Array, wanted: Array) -> bool:
    """Whether all are as near to the truth as was asked for."""
    return len(values) == len(wanted) and bool((abs(values / wanted - 1) <= ACCURATE).all())
