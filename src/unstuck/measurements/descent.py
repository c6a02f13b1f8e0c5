"""Routes down from the point: how much lower does the real loss get along each?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.lanczos import Lanczos
from unstuck.estimate import Estimate
from unstuck.measurements.judging import Judge
from unstuck.measurements.records import Route
from unstuck.objective.parameters import Parameters

# A line search multiplies its step by this until the loss stops falling, then looks between.
_STRIDE = 4.0

# Strides in one direction before giving up: from the first guess up to 4^12 = 1.7e7 times it, or down.
_MOST_STRIDES = 12

# Dampings of the curvature-corrected step, relative to the largest curvature: from nearly a gradient step to
# nearly a Newton step. Which of them the real loss likes best cannot be known beforehand.
_DAMPINGS = (1e-1, 1e-2, 1e-3, 1e-4, 0.0)

# Products spent on the Krylov space of g: as many as conjugate gradients need to bring the error of a valley
# of condition 100 down by e^-4, 2 exp(-2 k / sqrt(100)) (Saad, Iterative Methods, 2003, section 6.11.3).
KRYLOV_PRODUCTS = 20

# The short descent after a step along negative curvature: evaluations a leg, and legs. A weak saddle (|lambda_min|
# a thousandth of lambda_max) takes a hundred evaluations to show where it leads.
_LEG, _LEGS = 20, 5

# Random displacements are this share of what layers are initialised with: far enough off for a third or fourth
# derivative to show, not so far as to begin anew.
_SHAKE = 0.3

# It is decided once a tenth of the loss is gained, or when a leg other than the first gains next to nothing.
_DECIDED, _STALLED = 0.1, 1e-4


@dataclass(frozen=True)
class Best:
    """The best point of a search, and everything that was looked at on the way.

    Attributes:
        displacement: To it.
        values: Every batch's loss there, on the half that judges.
        found: By how much the loss is lower on the half that finds.
        distances: At which the loss was looked at.
        losses: The loss there, on the half that judges.
    """

    displacement: Float[Tensor, " n"]
    values: list[float]
    found: float
    distances: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()


def line_search(judge: Judge, direction: Float[Tensor, " n"], first: float, *, shown: bool = True) -> Best:
    """Look along a unit `direction` at `first`, and from there at ever longer or ever shorter distances.

    The best distance is chosen on the half that finds. The loss on the half that judges is told of all that were
    looked at, or, if they are not to be `shown`, of the best alone, which costs less.
    """
    theta, judges = judge.objective.theta, judge.halves.judges
    seen: dict[float, list[float]] = {0.0: list(judge.base)}

    def look(distance: float) -> float:
        seen[distance] = judge.search(theta + distance * direction)
        return judge.found(seen[distance])

    def best() -> float:
        return min(seen, key=lambda distance: judge.found(seen[distance]))

    _stride(look, first, judge.found(judge.base))
    if best() > 0.0:
        for distance in (0.5 * best(), 2.0 * best()):
            if distance not in seen:
                look(distance)
    chosen, distances = best(), tuple(sorted(seen)) if shown else ()
    found = judge.found(judge.base) - judge.found(seen[chosen])
    if judge.halves.finds != judges:
        for distance in {*distances, chosen} - {0.0}:
            seen[distance] = judge.look(theta + distance * direction)
    losses = tuple(judge.judged(seen[distance]) for distance in distances)
    return Best(chosen * direction, seen[chosen], found, distances, losses)


def _stride(look: Callable[[float], float], first: float, base: float) -> None:
    """Go on while the loss falls; where the first look is too far already, come back until it has fallen."""
    distance, lowest = first, look(first)
    factor = _STRIDE if lowest < base else 1.0 / _STRIDE
    for _ in range(_MOST_STRIDES):
        distance *= factor
        loss = look(distance)
        if lowest < base and loss >= lowest:
            return
        lowest = min(lowest, loss)


def along_gradient(
    judge: Judge,
    found: Float[Tensor, " n"],
    judged: Float[Tensor, " n"],
    first: float,
    present: float,
    *,
    shown: bool = True,
) -> Route:
    """Line search along -g of the half that finds.

    Args:
        judge: Compares losses.
        found: Gradient on the half that finds.
        judged: Gradient on the half that judges.
        first: Distance to look at first.
        present: Length of the step that the optimizer takes now, or 0.
        shown: Whether to tell the loss at every distance.
    """
    space = judge.objective.space
    best = line_search(judge, -found / space.norm(found), first, shown=shown)
    multiple = space.norm(best.displacement) / present if present else None
    return _route("gradient", judge, best, judged, multiple=multiple)


def along_krylov(
    judge: Judge, run: Lanczos, found: Float[Tensor, " n"], judged: Float[Tensor, " n"]
) -> Route:
    r"""Best damped step $-|H|_\mu^{-1} g$ within the Krylov space of g, for several dampings $\mu$.

    Negative curvature counts by its size (saddle-free Newton; Dauphin et al., 2014, section 4).
    """
    ritz, length = run.ritz(), judge.objective.space.norm(found)
    floor = max(run.noise * ritz.radius, torch.finfo(found.dtype).tiny)
    seen: list[tuple[Tensor, list[float]]] = [(torch.zeros_like(found), list(judge.base))]
    # Without any curvature no step has a natural length: the line search along -g says all there is.
    for damping in _DAMPINGS if ritz.radius > 0.0 else ():
        stretch = abs(ritz.values) + max(damping * ritz.radius, floor)
        weights = torch.from_numpy(ritz.weights @ (ritz.weights[0] / stretch)).to(found)
        step = -length * run.basis.combine(weights)
        seen.append((step, judge.search(judge.objective.theta + step)))
    step, values = min(seen, key=lambda pair: judge.found(pair[1]))
    found_gain = judge.found(judge.base) - judge.found(values)
    if judge.halves.finds != judge.halves.judges:
        values = judge.look(judge.objective.theta + step)
    return _route("krylov", judge, Best(step, values, found_gain), judged)


def along_curvature(
    judge: Judge, lowest: Float[Tensor, " n"], gradient: Float[Tensor, " n"], first: float
) -> tuple[Route, Float[Tensor, " n"]]:
    """Line search along both signs of the lowest eigenvector; also returns the best displacement."""
    sides = [line_search(judge, sign * lowest, first) for sign in (1.0, -1.0)]
    best = max(sides, key=lambda side: side.found)
    return _route("curvature", judge, best, gradient), best.displacement


class _OverError(Exception):
    """The time is over in the middle of a leg."""


def onward(
    name: str,
    judge: Judge,
    displacement: Float[Tensor, " n"],
    gradient: Float[Tensor, " n"],
    over: Callable[[], bool],
) -> Route:
    """Descend for a while from `displacement` on: does it lead anywhere?

    By L-BFGS (Liu & Nocedal, 1989) with the strong Wolfe conditions on the half that finds, in legs of
    twenty evaluations, until a tenth of the loss is gained, a leg gains nothing, the legs are used up, or the time
    is over.
    """
    objective, finds, space = judge.objective, judge.halves.finds, judge.objective.space
    theta = space.dressed(objective.theta + displacement).requires_grad_()
    begun = judge.found(judge.base)
    lowest, best = math.inf, objective.theta + displacement
    descent = torch.optim.LBFGS(
        [theta], max_iter=_LEG, max_eval=_LEG, tolerance_grad=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        nonlocal lowest, best
        if over():
            raise _OverError
        here = space.bare(theta.detach())
        value, slope = objective.value_and_gradient(here, finds)
        if value < lowest:
            lowest, best = value, here.clone()
        theta.grad = space.dressed(slope)
        return value

    for leg in range(_LEGS):
        before = lowest
        try:
            descent.step(closure)
        except _OverError:
            break
        if begun - lowest > _DECIDED * abs(begun) or (leg and not lowest < before - _STALLED * abs(begun)):
            break
    return _route(name, judge, Best(best - objective.theta, judge.look(best), begun - lowest), gradient)


def shaken(parameters: Parameters, theta: Float[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
    r"""Draw a displacement at random: a part of what layers begin with, $N(0, 1 / \mathrm{fan\_in})$ a weight."""
    seeded = torch.Generator().manual_seed(seed)
    drawn = parameters.space.draw(seeded).to(theta)
    for piece in parameters.pieces(drawn):
        piece.mul_(_SHAKE / math.sqrt(max(piece.shape[1:].numel(), 1)))
    return drawn


def taken(name: str, judge: Judge, displacements: Sequence[Float[Tensor, " n"]], *, steps: int = 1) -> Route:
    """What a displacement by the optimizer's own steps gains, on average over those it might make."""
    gains = [judge.gain(judge.look(judge.objective.theta + step)) for step in displacements]
    mean = math.fsum(gain.value for gain in gains) / len(gains)
    within = max(gain.stderr for gain in gains)
    spread = math.hypot(*(gain.value - mean for gain in gains))
    between = spread / math.sqrt(max(len(gains) - 1, 1) * len(gains))
    length = math.fsum(map(judge.objective.space.norm, displacements)) / len(displacements)
    stderr = math.hypot(within, between) if math.isfinite(mean) else math.inf
    return Route(
        name,
        Estimate(mean, stderr, gains[0].degrees),
        slope=mean,
        distance=length,
        multiple=float(steps),
        steps=steps,
    )


def _route(
    name: str,
    judge: Judge,
    best: Best,
    gradient: Float[Tensor, " n"],
    *,
    multiple: float | None = None,
) -> Route:
    gain = judge.gain(best.values)
    space = judge.objective.space
    promised = -space.dot(gradient.double(), best.displacement.double())
    return Route(
        name=name,
        gain=gain,
        slope=min(gain.value, promised),
        distance=space.norm(best.displacement),
        multiple=multiple,
        distances=best.distances,
        losses=best.losses,
        found=None if judge.halves.finds == judge.halves.judges else best.found,
    )
