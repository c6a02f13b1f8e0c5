"""The curvature at a point: the largest eigenvalues with their vectors, and the sum of all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.dense import dense_spectrum
from unstuck.curvature.records import Curvature, Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator, Room, inner, random_unit
from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.judging import Forms, Judge
from unstuck.objective import Objective
from unstuck.objective.products import Products

# Products for the trace, beyond those of the eigenvalues; and those whose scatter over batches gives its error.
_PROBES, _SCATTER = 8, 3

# Up to so many parameters the Hessian is formed: for hardly more products than Lanczos takes, and all is exact. The
# clock has no say in it, so that the same seed gives the same answer.
_FORMED = 256

# Of max|lambda|: negative curvature no deeper than that is not looked for, as a picture would not show it.
_NEGATIVE = 1e-2


@dataclass(frozen=True)
class Steepest:
    """The upper end of the spectrum.

    Attributes:
        value: Largest curvature, judged; `found` on the half that found it.
        trace: Sum of all eigenvalues.
        top: Unit eigenvector of the largest eigenvalue, the sign such that the loss rises along it.
        second: Of the next one; None where there is none, or no time for it.
    """

    value: Estimate
    found: float
    trace: Estimate
    top: Float[Tensor, " n"]
    second: Float[Tensor, " n"] | None
    engine: str


@dataclass(frozen=True)
class Means:
    """What may be spent: bytes for graphs, vectors to hold, seconds left, and randomness."""

    graphs: float
    room: Room
    left: Callable[[], float]
    generator: torch.Generator

    def over(self) -> bool:
        """Whether no time is left."""
        return self.left() <= 0.0


@dataclass(frozen=True)
class Ends:
    """Both ends of the spectrum.

    Attributes:
        lowest: Smallest curvature, judged; its error holds the residual as well.
        highest: Largest curvature, judged.
        forms: Judged curvatures of the vectors of the highest and the lowest, and between them.
        found: The eigenvalues on the half that finds, with their vectors.
        engine: How products were made.
    """

    lowest: Estimate
    highest: Estimate
    forms: Forms
    found: Curvature
    engine: str


def both_ends(judge: Judge, means: Means) -> Ends:
    """Find both ends on the half that finds, and judge the curvature along their vectors on the other.

    Raises:
        KeyboardInterrupt: Ctrl-C; what the run knew by then says too little.
    """
    objective = judge.objective
    with objective.products(objective.theta, judge.halves.finds, memory=means.graphs) as products:
        operator = operator_of(objective, products)
        if objective.size <= _FORMED and objective.space.parts is None:
            found = dense_spectrum(operator, products.block, block=32)
        else:
            found = _spectrum(operator, means, Question(tolerance=_NEGATIVE))
        engine = products.engine
        vectors = [found.highest, found.lowest]
        forms = judge.forms(vectors, products) if judge.halves.exhaustive else []
    forms = forms or judge.forms(vectors)
    known = found.spectrum
    return Ends(
        lowest=_residual(forms[1][1], 0.0 if known.exact else known.lowest[0].residual),
        highest=_residual(forms[0][0], 0.0 if known.exact else known.highest[0].residual),
        forms=forms,
        found=found,
        engine=engine,
    )


def operator_of(objective: Objective, products: Products) -> Operator:
    """Give products at the point as an operator on vectors of which each process may hold a part."""
    space = objective.space
    return Operator(products, space.size, objective.theta, products.noise, space.reduce, space.draw)


def _residual(value: Estimate, residual: float) -> Estimate:
    return replace(value, stderr=math.hypot(value.stderr, residual))


def steepest(judge: Judge, gradient: Float[Tensor, " n"], means: Means) -> Steepest:
    """Find the largest eigenvalues on the half that finds, and judge the curvature along the first on the other.

    Raises:
        KeyboardInterrupt: Ctrl-C; what the run knew by then says too little.
    """
    objective = judge.objective
    with objective.products(objective.theta, judge.halves.finds, memory=means.graphs) as products:
        operator = operator_of(objective, products)
        if objective.size <= _FORMED and objective.space.parts is None:
            found = dense_spectrum(operator, products.block, block=32)
        else:
            found = _spectrum(operator, means, _steepest_only(probes=_PROBES))
        top = found.highest if objective.space.dot(gradient, found.highest) >= 0.0 else -found.highest
        second = _second(operator, found, means) if objective.size > 1 and not means.over() else None
        engine = products.engine
    highest = found.spectrum.highest[0]
    return Steepest(
        value=_residual(judge.curvature(top), 0.0 if found.spectrum.exact else highest.residual),
        found=highest.value,
        trace=_with_scatter(judge, found.spectrum.trace, operator, means),
        top=top,
        second=second,
        engine=engine,
    )


def _steepest_only(*, probes: int) -> Question:
    return Question(tolerance=math.inf, negative_to=None, top=1, probes=probes)


def _spectrum(operator: Operator, means: Means, question: Question) -> Curvature:
    found = spectrum(
        operator,
        question,
        means.generator,
        room=means.room,
        should_stop=means.over,
    )
    if found.interrupted:
        raise KeyboardInterrupt
    return found


def _second(operator: Operator, found: Curvature, means: Means) -> Float[Tensor, " n"]:
    """The steepest direction of what is left when the first one is taken out."""
    value, vector = found.spectrum.lambda_max, found.highest
    lowered = value + 2.0 * found.spectrum.radius  # below all others, wherever they are

    def along(direction: Float[Tensor, " n"]) -> float:
        return float(inner(vector[None], direction, operator.reduce))

    def deflated(direction: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.add(operator.matvec(direction), vector, alpha=-lowered * along(direction))

    return _spectrum(replace(operator, matvec=deflated), means, _steepest_only(probes=0)).highest


def _with_scatter(judge: Judge, trace: Estimate, operator: Operator, means: Means) -> Estimate:
    r"""Add what the trace owes to the batches: the scatter of $n\,v^\top H_i v$ over them, for a few random v."""
    if judge.halves.exhaustive:
        return trace
    objective, judges = judge.objective, judge.halves.judges
    probes = [random_unit(operator, means.generator) for _ in range(_SCATTER)]
    each = [objective.quotients(objective.theta, probe, judges) for probe in probes]
    means_ = [objective.size * math.fsum(values) / _SCATTER for values in zip(*each, strict=True)]
    scatter = weighted_mean(means_, [objective.weights[index] for index in judges])
    return Estimate(trace.value, math.hypot(trace.stderr, scatter.stderr), scatter.degrees)
