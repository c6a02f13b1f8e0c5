"""What the record says of the steps since the loss stands still."""

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from torch import Tensor

from unstuck.estimate import Estimate, weighted_mean
from unstuck.findings.live.strides import REPLACES
from unstuck.findings.live.wiring import ORPHANS
from unstuck.measurements.records.live import Glimpse, Recent
from unstuck.watching.graphs.made import NOT_SEEN, Made
from unstuck.watching.graphs.stairs import NO_STAIRS, Stairs
from unstuck.watching.models import Inventory, layer_of
from unstuck.watching.sampled import Group, Sample

# Bytes of a float32.
_SINGLE = 4

# Beyond this share of a step's length, what moves the weights between two steps matters as the steps do.
SHIFTED = 0.5

_NOTHING_SEEN = Glimpse()

# Lengths that differ by less are one length, rounded; a scaler may double it now and then.
_ALIKE = 1e-4

# A vector that is so many times as long as it was is no longer what it was.
_TWICE = 2.0

# What differs by no more is about as much.
_ABOUT = 3.0

# Fewer samples than this have no spread to tell an error from.
FEWEST = 4


@dataclass(frozen=True)
class Wiring:
    """What of a model is trained.

    Attributes:
        unreached: Names of trainable parameters that an optimizer has, and that never had a gradient.
        unlisted: Names of trainable parameters in no optimizer.
        stepped: Names of those that it has and that lie behind step functions, through which no gradient comes.
        ends: Names of these functions.
        left_out: Share of the trainable parameters that these are.
        unregistered: Names of lists whose layers no module knows of.
        layers: Names of the layers that multiply by a matrix, in order.
        narrow: Whether parameters are kept in a type narrower than float32.
    """

    unreached: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    stepped: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    left_out: float = 0.0
    unregistered: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    narrow: bool = False


def recent(  # noqa: PLR0913 - what is known, from several sources
    samples: Sequence[tuple[int, float, Sample]],
    *,
    since: int,
    until: int,
    level: float,
    scale: float,
    began: float | None = None,
    lowest: float | None = None,
    first: Sample | None = None,
    rate: float | None = None,
    first_rate: float | None = None,
    made: Made = NOT_SEEN,
    erased: bool = False,
    from_zero: bool = True,
    glimpse: Glimpse = _NOTHING_SEEN,
    wired: Wiring = Wiring(),
) -> Recent:
    """Sum up the samples since a step; of too few since then, the last ones."""
    numbered = [(step, sample) for step, _, sample in samples if step >= since]
    if len(numbered) < FEWEST:
        numbered = [(step, sample) for step, _, sample in samples][-FEWEST:]
    own = [sample for _, sample in numbered]
    last = own[-max(len(own) // 2, FEWEST) :]
    return Recent(
        since=since,
        until=until,
        level=level,
        scale=scale,
        began=began,
        lowest=lowest,
        first_share=None if first is None else _share(first),
        grown=None if first is None else _grown_before(samples, since, first),
        driven=_driven(first, samples[-1][2]) if first is not None and samples else (),
        signal=_mean(own, lambda sample: sample.signal),
        noise=_mean(own, lambda sample: sample.noise),
        gradient_cosine=_median(own, lambda sample: sample.gradient_cosine),
        gradient_norm=_median(own, lambda sample: sample.gradient_norm),
        clipped=_clipped(own),
        step_share=_median(own, _share),
        reach=_reach(own),
        descent=_median(own, _descent),
        promise=_mean(own, _descent),
        ahead=_ahead(numbered),
        sigma_ratio=_median(own, lambda sample: sample.sigma_ratio),
        unchanged=_median(own, lambda sample: sample.unchanged),
        overshoot=_overshoot(own),
        lately=_overshoot(_of_the_end(own, last)),
        # What has died meanwhile may have had gradients since the loss stands still.
        silent=_silent(last, wired.layers, {layer_of(name) for name in wired.stepped}),
        zeros=_zeros(own),
        narrow=wired.narrow,
        samples=len(own),
        unreached=wired.unreached,
        unlisted=wired.unlisted,
        stepped=wired.stepped,
        ends=wired.ends,
        left_out=wired.left_out,
        unregistered=wired.unregistered,
        depths=_depths(own, wired.layers),
        first_depths=() if first is None else _depths([first], wired.layers),
        rate=rate,
        first_rate=first_rate,
        shifted=_shifted(own),
        twice=made.twice,
        crossed=made.crossed,
        alone=made.alone,
        erased=erased,
        remade=first is not None and not from_zero and _remade(first),
        piled=len(own) >= FEWEST and all(sample.piled for sample in own),
        glimpse=glimpse,
    )


def wiring(
    model: Inventory | None, listed: Sequence[Tensor], reached: Set[int], stairs: Stairs = NO_STAIRS
) -> Wiring:
    """Compare what the model has with what the optimizers move; `reached` are ids of what had a gradient."""
    narrow = any(tensor.element_size() < _SINGLE for tensor in listed)
    if listed and model is None and not reached:
        return Wiring(unreached=ORPHANS, left_out=1.0, narrow=narrow)
    if model is None or not listed:  # the optimizers may be gone by now
        return Wiring(narrow=narrow)
    known = {id(tensor) for tensor in listed}
    unlisted = [name for name, tensor, _ in model.trainable if tensor not in known]
    unreached = [name for name, tensor, _ in model.trainable if tensor in known and tensor not in reached]
    behind = stairs.behind & reached & known
    stepped = [name for name, tensor, _ in model.trainable if tensor in behind]
    sizes = {name: size for name, _, size in model.trainable}
    total = sum(sizes.values())
    left = sum(sizes[name] for name in (*unlisted, *unreached, *stepped))
    return Wiring(
        tuple(unreached),
        tuple(unlisted),
        tuple(stepped),
        stairs.ends,
        left / total if total else 0.0,
        tuple(
            place for place in model.unregistered if any(name.startswith(f"{place}.") for name in unlisted)
        ),
        model.matrices,
        narrow,
    )


def _grown(first: Sample | Group, last: Sample | Group) -> float | None:
    return last.weight_norm / first.weight_norm if first.weight_norm > 0.0 else None


def _grown_before(samples: Sequence[tuple[int, float, Sample]], since: int, first: Sample) -> float | None:
    """Of the steps before the loss stood still alone: what it does since need not have brought it there."""
    if not samples or (samples[0][0] >= since and samples[0][2] is not first):
        return None  # what was sampled then is not remembered any more
    then = next((sample for step, _, sample in samples if step >= since), None)
    return None if then is None else _grown(first, then)


def _driven(first: Sample, last: Sample) -> tuple[str, ...]:
    """Layers whose weights are twice as long as they were, or that first steps have made anew.

    By the triangle inequality what twice as long a vector has come by is as long as what it was, at least.
    """
    return tuple(
        name
        for name, then in first.layers.items()
        if (now := last.layers.get(name)) is not None
        and ((_grown(then, now) or 0.0) >= _TWICE or then.update_norm >= REPLACES * then.weight_norm > 0.0)
    )


def _remade(first: Sample) -> bool:
    return all(layer.update_norm >= REPLACES * layer.weight_norm for layer in first.layers.values())


def _share(sample: Sample) -> float | None:
    return sample.update_norm / sample.weight_norm if sample.weight_norm > 0.0 else None


def _clipped(samples: Sequence[Sample]) -> bool:
    """Whether most gradients are as long as that of the sample before, to more digits than noise would leave."""
    lengths = _finite(samples, lambda sample: sample.gradient_norm)
    alike = [abs(after - before) < _ALIKE * before for before, after in pairwise(lengths)]
    return len(lengths) >= FEWEST and sum(alike) > len(alike) / 2


def _reach(samples: Sequence[Sample]) -> float | None:
    """Median, or that of the last one if it is less: what a gradient once promised it need not promise any more.

    Nor does the optimizer follow what weight decay takes from it.
    """
    promised = _finite(
        samples, lambda sample: sample.gradient_norm * min(sample.unbalanced, 1.0) * sample.weight_norm
    )
    return min(median(promised), promised[-1]) if promised else None


def _descent(sample: Sample) -> float | None:
    if sample.descent_cosine is None:
        return None
    return sample.descent_cosine * sample.gradient_norm * sample.update_norm


def _ahead(samples: Sequence[tuple[int, Sample]]) -> float | None:
    r"""Sum up a geometric series: of promises $D e^{-k s}$ at step s, $D / k$ from the last on, if k is surely > 0.

    By a straight line through the logarithms (least squares), with the error of its slope.
    """
    known = [(step, math.log(value)) for step, one in samples if (value := _descent(one) or 0.0) > 0.0]
    if len(known) < max(len(samples), FEWEST) or not all(math.isfinite(value) for _, value in known):
        return None
    steps, values = zip(*known, strict=True)
    across, up = fmean(steps), fmean(values)
    spread = math.fsum((step - across) ** 2 for step in steps)
    slope = math.fsum((step - across) * (value - up) for step, value in known) / spread
    left = math.fsum((value - up - slope * (step - across)) ** 2 for step, value in known)
    degrees = len(known) - 2.0
    if not Estimate(slope, math.sqrt(left / degrees / spread), degrees).surely_below(0.0, sigmas=2.0):
        return None
    return math.exp(up + slope * (steps[-1] - across)) / -slope


def _shifted(samples: Sequence[Sample]) -> float:
    moved = [sample.outside > SHIFTED * sample.update_norm for sample in samples if sample.update_norm > 0.0]
    return sum(moved) / len(moved) if moved else 0.0


def _finite(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> list[float]:
    values = [what(sample) for sample in samples]
    return [value for value in values if value is not None and math.isfinite(value)]


def _median(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> float | None:
    values = _finite(samples, what)
    return median(values) if values else None


def _mean(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> Estimate | None:
    values = _finite(samples, what)
    if len(values) < FEWEST:
        return None
    return weighted_mean(values, [1.0] * len(values))


def _silent(samples: Sequence[Sample], order: Sequence[str], stepped: Set[str]) -> tuple[str, ...]:
    """Layers whose gradient is exactly zero in all samples, before one where it is not; with weights after them.

    Those behind step functions have none whatever their units give.
    """

    def most(name: str, what: Callable[[Group], float]) -> float:
        return max((what(sample.layers[name]) for sample in samples if name in sample.layers), default=0.0)

    gradients = [most(name, lambda group: group.gradient_norm) for name in order]
    weights = [most(name, lambda group: group.weight_norm) for name in order]
    last = max((place for place, size in enumerate(gradients) if size > 0.0), default=-1)
    if last < 0 or not all(weights[: last + 1]):
        return ()
    return tuple(
        name
        for name, size in zip(order[:last], gradients, strict=False)
        if size == 0.0 and name not in stepped
    )


def _zeros(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Layers whose weights and gradients are exactly zero in all samples, where the steps move others."""
    names = list(samples[-1].layers) if samples else []
    return tuple(
        name
        for name in names
        if all(
            (group := sample.layers.get(name)) is not None
            and group.weight_norm == group.gradient_norm == group.update_norm == 0.0
            for sample in samples
        )
    )


def _overshoot(samples: Sequence[Sample]) -> Estimate | None:
    """Mean slope at the ends of the steps over mean slope at their beginnings: single ratios have heavy tails."""
    known = [
        (sample.overshoot, abs(_descent(sample) or 0.0)) for sample in samples if sample.overshoot is not None
    ]
    known = [(value, weight) for value, weight in known if math.isfinite(value * weight) and weight > 0.0]
    if len(known) < FEWEST:
        return None
    return weighted_mean([value for value, _ in known], [weight for _, weight in known])


def _of_the_end(samples: Sequence[Sample], last: Sequence[Sample]) -> Sequence[Sample]:
    """The last ones, and those before them as far back as steps promised about as much: what is true of them, too."""
    promised = _median(last, _descent)
    begin = len(samples) - len(last)
    while begin and promised is not None and abs(_descent(samples[begin - 1]) or 0.0) <= _ABOUT * promised:
        begin -= 1
    return samples[begin:]


def _depths(samples: Sequence[Sample], order: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Median over the samples of each layer's gradient over its weights."""
    layers: dict[str, list[float]] = {}
    for sample in samples:
        for name, group in sample.layers.items():
            if group.weight_norm > 0.0:
                layers.setdefault(name, []).append(group.gradient_norm / group.weight_norm)
    return tuple((name, median(layers[name])) for name in order if name in layers)
