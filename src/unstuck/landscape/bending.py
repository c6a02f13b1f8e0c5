r"""The spectrum of the Hessian, and in the metric of an adaptive optimizer that of $D^{1/2} H D^{1/2}$."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.dense import dense_spectrum, looped
from unstuck.curvature.density import density, fraction_above, quadrature
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Curvature, Density, Eigenvalue, Question, Spectrum
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator, random_unit
from unstuck.estimate import Estimate
from unstuck.landscape.bends import Bending, Bin, Spread
from unstuck.landscape.ground import Ground
from unstuck.measurements.optimizer.metric import Metric, metric_of
from unstuck.measurements.records import Omission
from unstuck.objective.products import Products
from unstuck.objective.sampling import reason
from unstuck.progress import Told
from unstuck.training import Training

# Up to so many parameters the matrix is formed, if half of the time that is left is enough for that.
_FORMED, _FORMING = 2_000, 0.5

# Of the time that is left, what the Hessian leaves to the metric of an adaptive optimizer.
_FIRST = 0.5

# Products for the trace, beyond those of the eigenvalues.
_PROBES = 8

# Random starts whose densities are averaged, and products of each that is there for nothing else.
_STARTS, _PRODUCTS = 5, 100

# Bins of the density within the flat zone, as in the figures.
_IN_FLAT = 4


@dataclass(frozen=True)
class _Ends:
    found: Curvature
    lowest: tuple[Eigenvalue, ...]
    highest: tuple[Eigenvalue, ...]
    densities: tuple[Density, ...]
    settled: bool


@dataclass(frozen=True)
class _Look:
    """What one random start shows of all eigenvalues: their density, and the shares of a `Spectrum`."""

    density: Density
    positive: Estimate
    above: Estimate
    below: Estimate


class Bender:
    """Measures the curvature at one point; `bending` gives what is known by then.

    Args:
        training: What is looked at.
        ground: The point, with the optimizer's weight decay.
        top: How many eigenvalues at each end.
    """

    def __init__(self, training: Training, ground: Ground, top: int) -> None:
        self._training, self._ground, self._top = training, ground, min(top, ground.objective.size)
        self._spreads: list[Spread] = []
        self._omitted: list[Omission] = []
        self._metric: Metric | None = None
        self._engine, self._settled = "", True
        self._reserve = 0.0

    def run(self, told: Told) -> None:
        """Measure the Hessian's spectrum, and that of the metric where it is another."""
        optimizer = self._training.optimizer
        if optimizer is not None:
            try:
                self._metric = metric_of(optimizer, self._ground.objective)
            except Exception as error:  # a stranger's optimizer may hold anything
                self._omitted.append(Omission("metric", reason(error)))
        adaptive = self._metric is not None and self._metric.uniform is None
        self._reserve = _FIRST * self._ground.limits.left() if adaptive else 0.0
        self._attempt("hessian", None, lambda share: told("eigenvalues of the Hessian", 0.05 + 0.5 * share))
        self._reserve = 0.0
        if adaptive:
            self._attempt(
                "metric",
                self._metric,
                lambda share: told("eigenvalues in the optimizer's metric", 0.55 + 0.4 * share),
            )

    def bending(self) -> Bending:
        """Give what is known so far."""
        ground, metric = self._ground, self._metric
        return Bending(
            subject=ground.subject,
            sample=ground.sample,
            loss=ground.judge.loss(),
            gradient=ground.objective.space.norm((ground.found + ground.judged) / 2.0),
            spreads=tuple(self._spreads),
            rate=metric and metric.uniform,
            limit=metric and metric.limit,
            omitted=tuple(self._omitted),
            cost=ground.cost(self._engine),
            complete=self._settled and bool(self._spreads),
        )

    def _attempt(self, name: str, metric: Metric | None, behind: Callable[[float], None]) -> None:
        ground = self._ground
        behind(0.0)
        if ground.limits.over():
            self._settled = False
            self._omitted.append(Omission(name, "the time was over"))
            return
        try:
            self._measure(name, metric, behind)
        except Exception as error:  # strangers' models may raise anything
            self._settled = False
            self._omitted.append(Omission(name, reason(error)))

    def _measure(self, name: str, metric: Metric | None, behind: Callable[[float], None]) -> None:
        ground, spent, begun = self._ground, self._ground.spent, self._ground.ledger.products
        objective, finds = ground.objective, ground.judge.halves.finds
        with objective.products(ground.theta, finds, memory=ground.graphs) as products:
            self._engine = products.engine
            ends = self._ends(_operator(ground, products, metric), behind)
        self._settled = self._settled and ends.settled
        self._spreads.append(
            Spread(
                name=name,
                spectrum=replace(ends.found.spectrum, products=ground.ledger.products - begun),
                lowest=ends.lowest,
                highest=ends.highest,
                judged_lowest=_judged(ground, ends.found.lowest, metric),
                judged_highest=_judged(ground, ends.found.highest, metric),
                bins=binned(
                    ends.densities,
                    ends.found.spectrum.flat * ends.found.spectrum.radius,
                    exact=ends.found.spectrum.exact,
                ),
                starts=len(ends.densities),
                gradients=ground.spent - spent,
            )
        )
        if ends.found.interrupted:
            raise KeyboardInterrupt

    def _ends(self, operator: Operator, behind: Callable[[float], None]) -> _Ends:
        limits, top = self._ground.limits, self._top
        if operator.size <= _FORMED and self._ground.forming_fits(operator, _FORMING):
            found = dense_spectrum(
                operator, looped(operator.matvec), progress=lambda done: behind(done / operator.size)
            )
            return _all_known(found, top)
        generator = limits.generator()

        def run(matrix: Operator, question: Question) -> Curvature:
            return spectrum(
                matrix,
                question,
                generator,
                room=self._ground.room,
                progress=lambda progress: behind(1.0 - math.exp(-progress.products / 120.0)),
                should_stop=self._over,
            )

        found = run(operator, Question(top=top, probes=_PROBES))
        if found.spectrum.exact:  # the run has come to the end of its space
            return _all_known(found, top)
        lowest, settled, looks = found.spectrum.lowest, found.settled, [_seen(found.spectrum)]

        def negated(vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
            return -operator.matvec(vector)

        if not found.interrupted and not self._over():
            question = Question(tolerance=math.inf, negative_to=None, top=top)
            other = run(replace(operator, matvec=negated), question)
            lowest = tuple(Eigenvalue(-each.value, each.residual) for each in other.spectrum.highest)
            looks.append(_mirrored(_seen(other.spectrum)))
            settled = settled and other.settled
            found = replace(found, lowest=other.highest, interrupted=other.interrupted)
        while len(looks) < _STARTS and not found.interrupted and not self._over():
            looks.append(_look_again(operator, self._ground, found.spectrum, len(looks)))
        known = replace(
            _surest(found.spectrum, looks), lowest=lowest[:top], highest=found.spectrum.highest[:top]
        )
        found = replace(found, spectrum=known)
        densities = tuple(look.density for look in looks)
        return _Ends(found, known.lowest, known.highest, densities, settled=settled)

    def _over(self) -> bool:
        """Whether the time is over, but for what is kept for the other spectrum."""
        return self._ground.limits.left() <= self._reserve


def binned(densities: Sequence[Density], unit: float, *, exact: bool = False) -> tuple[Bin, ...]:
    r"""Average densities in bins of equal width on $\mathrm{asinh}(\lambda / u)$, with the scatter of the starts.

    Args:
        densities: One of each start; of one start alone nobody knows the error.
        unit: Half of the flat zone, $u$.
        exact: Whether they hold every eigenvalue: then there is no error.
    """
    scale, width = unit or 1.0, 2.0 * math.asinh(1.0) / _IN_FLAT
    shares: defaultdict[int, list[float]] = defaultdict(lambda: [0.0] * len(densities))
    for number, each in enumerate(densities):
        for node, weight in zip(each.nodes, each.weights, strict=True):
            shares[math.floor(math.asinh(node / scale) / width)][number] += weight
    return tuple(
        Bin(
            scale * math.sinh(index * width),
            scale * math.sinh((index + 1) * width),
            _scatter(shares[index], exact=exact),
        )
        for index in sorted(shares)
    )


def _scatter(values: Sequence[float], *, exact: bool) -> Estimate:
    count = len(values)
    mean = math.fsum(values) / count
    if exact or count == 1:
        return Estimate(mean, 0.0 if exact else math.inf)
    spread = math.hypot(*(value - mean for value in values)) / math.sqrt((count - 1) * count)
    return Estimate(mean, spread, float(count - 1))


def _all_known(found: Curvature, top: int) -> _Ends:
    values, error = found.spectrum.density.nodes, found.spectrum.noise * found.spectrum.radius
    lowest = tuple(Eigenvalue(value, error) for value in values[:top])
    highest = tuple(Eigenvalue(value, error) for value in values[::-1][:top])
    return _Ends(found, lowest, highest, (found.spectrum.density,), settled=True)


def _operator(ground: Ground, products: Products, metric: Metric | None) -> Operator:
    operator = ground.operator(products)
    if metric is None:
        return operator
    return replace(operator, matvec=partial(metric.multiply, products), like=metric.rates)


def _judged(ground: Ground, vector: Float[Tensor, " n"], metric: Metric | None) -> Estimate:
    """The same quotient on the half that judges."""
    if metric is None:
        return ground.judge.curvature(vector)
    direction, space = metric.rates.sqrt() * vector, ground.objective.space
    square = space.square(direction)
    if not square:
        return Estimate(0.0, 0.0)
    found = ground.judge.curvature(direction)
    outside = 0.0 if metric.decay is None else space.dot(metric.decay * direction, direction)
    return Estimate(square * found.value - outside, square * found.stderr, found.degrees)


def _look_again(operator: Operator, ground: Ground, known: Spectrum, number: int) -> _Look:
    """Stochastic Lanczos quadrature from one more start."""
    generator = ground.limits.generator()
    generator.manual_seed(ground.limits.seed + number)
    steps = min(_PRODUCTS, ground.room.vectors - 1)
    run = Lanczos(operator, random_unit(operator, generator), room=ground.room, generator=generator)
    while run.products < steps and not run.finished and not (run.products > 1 and ground.limits.over()):
        run.step()
    found = quadrature(run, run.ritz())
    blur, cut = known.noise * known.radius, known.flat * known.radius
    return _Look(
        density(found).record(),
        fraction_above(found, 0.0, blur=blur),
        fraction_above(found, cut, blur=blur),
        fraction_above(found.mirrored(), cut, blur=blur),
    )


def _seen(known: Spectrum) -> _Look:
    return _Look(known.density, known.positive, known.above, known.below)


def _mirrored(look: _Look) -> _Look:
    density = Density(tuple(-node for node in look.density.nodes[::-1]), look.density.weights[::-1])
    positive = replace(look.positive, value=1.0 - look.positive.value)
    return _Look(density, positive, look.below, look.above)


def _surest(known: Spectrum, looks: Sequence[_Look]) -> Spectrum:
    """Take each share from the start that knows it best, as its error is bounds and chance; and all densities."""
    pooled = sorted(
        (node, weight / len(looks))
        for look in looks
        for node, weight in zip(look.density.nodes, look.density.weights, strict=True)
    )
    return replace(
        known,
        density=Density(tuple(node for node, _ in pooled), tuple(weight for _, weight in pooled)),
        positive=min((look.positive for look in looks), key=lambda share: share.stderr),
        above=min((look.above for look in looks), key=lambda share: share.stderr),
        below=min((look.below for look in looks), key=lambda share: share.stderr),
    )
