"""Ask a symmetric operator about its eigenvalues, and stop as soon as the answer is settled."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from unstuck.curvature.certificate import ceiling, excludes, floor, mirrored
from unstuck.curvature.dense import SHOWN, exact_spectrum
from unstuck.curvature.density import density, fraction_above, quadrature
from unstuck.curvature.lanczos import Array, Chain, Cycle, Lanczos, Ritz
from unstuck.curvature.records import Curvature, Eigenvalue, Progress, Question, Spectrum
from unstuck.curvature.trace import Sample, complement_samples, projected_trace, quadrature_trace
from unstuck.curvature.vectors import Operator, Room, random_unit

_ROOM = Room()

_DOUBT = 3.0  # an eigenvalue is negative beyond doubt if it is so by this many times the noise
_EVERY = 20  # look at the answer after every step at first, later after each further 1/20 of the products
_LISTED = 0.01  # relative error up to which an eigenvalue is listed though nobody asked for it


def spectrum(
    operator: Operator,
    question: Question,
    generator: torch.Generator,
    *,
    room: Room = _ROOM,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Curvature:
    """Run Lanczos from a random start until the question is settled, and tell all that the run knows.

    Args:
        operator: Symmetric.
        question: When to stop.
        generator: All randomness comes from here.
        room: For the vectors that are held at once.
        progress: Is told now and then how far it is.
        should_stop: Asked before every product but the first; when it says yes, what is known is returned.

    Raises:
        MeasurementError: A product is not finite; `room` is too small.
        KeyboardInterrupt: Only before the first product is done. Later, the result says `interrupted`.
    """
    run = Lanczos(operator, random_unit(operator, generator), room=room, generator=generator)
    stop = should_stop or _never
    samples: list[Sample] = []
    answered = interrupted = False
    try:
        answered = _answer(run, question, progress or _untold, stop)
        if answered and not run.finished:
            _probe(run, question, generator, stop, samples)
    except KeyboardInterrupt:
        if run.products == 0:
            raise
        interrupted = True
    ritz = run.ritz()
    return Curvature(
        spectrum=_describe(run, ritz, question, samples),
        lowest=run.vector(ritz.weights[:, 0]),
        highest=run.vector(ritz.weights[:, -1]),
        settled=answered and not interrupted,
        interrupted=interrupted,
    )


def lower_end_settled(run: Lanczos, ritz: Ritz, question: Question) -> bool:
    """Whether nothing lies below the tolerance, with the probability asked for, or what does is known."""
    radius, noise = ritz.radius, run.noise
    if radius == 0 or question.tolerance == np.inf:
        return True
    # Below twice the noise no certificate can reach, so to ask for less would never end.
    point = -(max(question.tolerance, 2 * noise) - noise) * radius
    if excludes(run.chains[0], point, probability=question.probability, hidden=noise * radius):
        return True
    lowest = float(ritz.values[0])
    if lowest >= -_DOUBT * noise * radius:
        return False
    if question.negative_to is None:
        return True
    return float(ritz.errors[0]) <= max(-question.negative_to * lowest, noise * radius)


def upper_end_settled(run: Lanczos, ritz: Ritz, question: Question) -> bool:
    """Whether the largest eigenvalues are known as well as asked for.

    An eigenvalue that the start hardly touches shows up late, and moves all below it down the list by one. So
    one more than was asked for must be settled, on the scale of the last one that was.
    """
    top, radius = min(question.top, run.operator.size), ritz.radius
    if top == 0:
        return True
    if len(ritz.values) < top or radius == 0:
        return len(ritz.values) >= top
    asked = np.abs(ritz.values[-top:])
    # An eigenvalue near zero has no scale of its own.
    scales = np.maximum(asked, question.top_to * radius)
    allowed = np.maximum(question.top_to * np.append(scales[0], scales), run.noise * radius)
    if len(ritz.values) == top or bool((ritz.errors[-top - 1 :] > allowed).any()):
        return False
    tails = list(_tails(run, question.top_to))
    point, hidden = -float(ritz.values[-top] + allowed[0]), run.noise * radius
    return not tails or any(
        excludes(mirrored(tail), point, probability=question.probability, hidden=hidden) for tail in tails
    )


def _tails(run: Lanczos, accuracy: float) -> Iterator[Chain]:
    """Yield what came after each point where the Krylov space of a start had ended, or all but ended.

    Up to there the run has one of each eigenvalue; only what came after can tell whether there are more copies. A new
    start is random, and proves it. Before there is one, what goes on behind a coupling of the square of the accuracy,
    which leaves nothing to settle, is looked at too: it proves nothing, but shows eigenvalues so near to others that
    they were copies until then.
    """
    if len(run.chains) > 1:
        yield from run.chains[1:]
        return
    ended = max(math.sqrt(torch.finfo(run.operator.like.dtype).eps), accuracy**2) * run.scale
    for cycle in run.chains[0].cycles:
        for after in np.flatnonzero(np.array(cycle.offdiagonal) <= ended) + 1:
            rest = Cycle(diagonal=cycle.diagonal[after:], offdiagonal=cycle.offdiagonal[after:])
            yield Chain(run.operator.size, [rest])


def _answer(
    run: Lanczos, question: Question, progress: Callable[[Progress], None], stop: Callable[[], bool]
) -> bool:
    over = False
    while not over:
        for _ in range(1 + run.products // _EVERY):
            _make_room(run, question)
            run.step()
            over = run.finished or run.products >= question.max_products or stop()
            if over:
                break
        if run.products <= question.top and not over:
            continue  # too few to know so many
        ritz = run.ritz()
        progress(Progress(run.products, float(ritz.values[0]), float(ritz.values[-1])))
        if run.finished or (
            lower_end_settled(run, ritz, question) and upper_end_settled(run, ritz, question)
        ):
            return True
    return False


def _make_room(run: Lanczos, question: Question) -> None:
    """Restart a full run, with most of the kept vectors at the end that is still unsettled."""
    if not run.full:
        return
    ritz, keep = run.ritz(), len(run.basis) // 2
    few = min(question.top + 2, keep // 2)
    if upper_end_settled(run, ritz, question):
        run.restart(keep - few, few)
    elif lower_end_settled(run, ritz, question):
        run.restart(2, keep - 2)
    else:
        run.restart(keep - max(few, keep // 2), max(few, keep // 2))


def _probe(
    run: Lanczos,
    question: Question,
    generator: torch.Generator,
    stop: Callable[[], bool],
    samples: list[Sample],
) -> None:
    drawn = complement_samples(run, generator)
    while len(samples) < question.probes and not stop():
        samples.append(next(drawn))


def _describe(run: Lanczos, ritz: Ritz, question: Question, samples: Sequence[Sample]) -> Spectrum:
    noise, size, radius = run.noise, run.operator.size, ritz.radius
    if run.finished:
        return exact_spectrum(ritz.values.tolist(), noise=noise, flat=question.flat, products=run.products)
    found, blur, cut = quadrature(run, ritz), noise * radius, question.flat * radius
    traces = [quadrature_trace(found)] + ([projected_trace(run, samples)] if samples else [])
    start, trust = run.chains[0], question.probability
    return Spectrum(
        size=size,
        exact=False,
        lowest=_listed(ritz.values, ritz.residuals, ritz.errors, 1, blur),
        highest=_listed(
            ritz.values[::-1], ritz.residuals[::-1], ritz.errors[::-1], max(1, question.top), blur
        ),
        floor=floor(start, float(ritz.values[0]), radius, probability=trust, noise=noise),
        ceiling=ceiling(start, float(ritz.values[-1]), radius, probability=trust, noise=noise),
        density=density(found).record(),
        positive=fraction_above(found, 0.0, blur=blur),
        above=fraction_above(found, cut, blur=blur),
        below=fraction_above(found.mirrored(), cut, blur=blur),
        flat=question.flat,
        trace=min(traces, key=lambda estimate: estimate.stderr),
        noise=noise,
        products=run.products + len(samples),
    )


def _listed(
    values: Array, residuals: Array, errors: Array, least: int, blur: float
) -> tuple[Eigenvalue, ...]:
    """Return the leading eigenvalues: at least so many, and further ones as long as they are settled."""
    settled = int(np.argmin(np.append(errors <= _LISTED * np.abs(values), False)))
    count = min(max(least, settled), SHOWN)
    found = zip(values[:count].tolist(), np.hypot(residuals[:count], blur).tolist(), strict=True)
    return tuple(Eigenvalue(value, residual) for value, residual in found)


def _untold(progress: Progress) -> None:
    del progress


def _never() -> bool:
    return False
