"""What the record says of the steps since the loss stands still."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from torch import Tensor, nn

from unstuck.estimate import Estimate
from unstuck.measurements.records.live import Recent
from unstuck.watching.samples import Sample

# Fewer samples than this have no spread to tell an error from.
_FEWEST = 4


def recent(  # noqa: PLR0913 - what is known, from several sources
    samples: Sequence[tuple[int, float, Sample]],
    *,
    since: int,
    until: int,
    level: float,
    scale: float,
    rate: float | None = None,
    wiring: tuple[tuple[str, ...], tuple[str, ...], float] = ((), (), 0.0),
) -> Recent:
    """Sum up the samples since a step; of too few since then, the last ones."""
    own = [sample for step, _, sample in samples if step >= since]
    if len(own) < _FEWEST:
        own = [sample for _, _, sample in samples][-_FEWEST:]
    unreached, unlisted, left_out = wiring
    return Recent(
        since=since,
        until=until,
        level=level,
        scale=scale,
        signal=_mean(own, lambda sample: sample.signal),
        noise=_mean(own, lambda sample: sample.noise),
        gradient_cosine=_median(own, lambda sample: sample.gradient_cosine),
        gradient_norm=_median(own, lambda sample: sample.gradient_norm),
        step_share=_median(own, _step_share),
        sigma_ratio=_median(own, lambda sample: sample.sigma_ratio),
        unchanged=_median(own, lambda sample: sample.unchanged),
        samples=len(own),
        unreached=unreached,
        unlisted=unlisted,
        left_out=left_out,
        depths=_depths(own),
        rate=rate,
    )


def wiring(
    model: nn.Module | None, listed: Iterable[Tensor]
) -> tuple[tuple[str, ...], tuple[str, ...], float]:
    """Names of trainable parameters without a gradient, and of those in no optimizer; and their share of all."""
    if model is None:
        return (), (), 0.0
    known = {id(tensor) for tensor in listed}
    trainable = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    unlisted = tuple(name for name, tensor in trainable.items() if id(tensor) not in known)
    unreached = tuple(
        name for name, tensor in trainable.items() if id(tensor) in known and tensor.grad is None
    )
    total = sum(tensor.numel() for tensor in trainable.values())
    left = sum(trainable[name].numel() for name in (*unlisted, *unreached))
    return unreached, unlisted, left / total if total else 0.0


def _step_share(sample: Sample) -> float | None:
    return sample.update_norm / sample.weight_norm if sample.weight_norm > 0.0 else None


def _finite(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> list[float]:
    values = [what(sample) for sample in samples]
    return [value for value in values if value is not None and math.isfinite(value)]


def _median(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> float | None:
    values = _finite(samples, what)
    return median(values) if values else None


def _mean(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> Estimate | None:
    values = _finite(samples, what)
    count = len(values)
    if count < _FEWEST:
        return None
    mean = math.fsum(values) / count
    spread = math.hypot(*(value - mean for value in values))
    return Estimate(mean, spread / math.sqrt(count * (count - 1.0)), count - 1.0)


def _depths(samples: Sequence[Sample]) -> tuple[tuple[str, float], ...]:
    """Median over the samples of each layer's gradient over its weights."""
    layers: dict[str, list[float]] = {}
    for sample in samples:
        for name, group in sample.layers.items():
            if group.weight_norm > 0.0:
                layers.setdefault(name, []).append(group.gradient_norm / group.weight_norm)
    return tuple((name, median(ratios)) for name, ratios in layers.items())
