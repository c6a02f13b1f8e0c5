"""The latest numbers of a run under the names that charts know them by, and a way to hand them on."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from unstuck.findings.records import Finding
from unstuck.measurements.records.live import Look
from unstuck.watching.follower import Follower

# Samples whose signal and noise are averaged, apart from each other: one alone says next to nothing.
_AVERAGED = 50


@runtime_checkable
class Writer(Protocol):
    """What a `SummaryWriter` of TensorBoard can do."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None) -> None:
        """Draw a number at a step."""
        ...

    def add_text(self, tag: str, text_string: str, global_step: Any = None) -> None:
        """Show a text at a step."""
        ...


def scalars(
    followers: Sequence[Follower], look: Look | None, findings: Sequence[Finding], *, stalled: bool
) -> dict[str, float]:
    """Name the latest numbers; of several optimizers, with the number of each."""
    found: dict[str, float | None] = {"stalled": float(stalled)}
    for follower in followers:
        where = "" if len(followers) == 1 else f"{follower.number}/"
        found |= {f"{where}{name}": value for name, value in _sampled(follower).items()}
    if look is not None:
        found["lambda_min"], found["lambda_max"] = look.lambda_min.value, look.lambda_max.value
        found["top_share"] = look.top_share
    found |= {f"finding/{finding.cause.value}": finding.confidence for finding in findings if stalled}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _sampled(follower: Follower) -> Mapping[str, float | None]:
    samples = [sample for _, _, sample in list(follower.samples)[-_AVERAGED:]]
    if not samples:
        return {}
    last, loss = samples[-1], follower.loss
    signal = math.fsum(sample.signal or 0.0 for sample in samples)
    noise = math.fsum(sample.noise or 0.0 for sample in samples)
    return {
        "loss": loss if isinstance(loss, float) else None,
        "gradient_norm": last.gradient_norm,
        "weight_norm": last.weight_norm,
        "update_share": last.update_norm / last.weight_norm if last.weight_norm else None,
        "gradient_cosine": last.gradient_cosine,
        "descent_cosine": last.descent_cosine,
        "noise_scale": noise / signal if signal > 0.0 else None,
        "sigma_ratio": last.sigma_ratio,
        "unchanged": last.unchanged,
    }


class Forwarder:
    """Hands what is new on to a writer.

    Args:
        writer: Takes it.
        latest: Gives the numbers.
        messages: Gives what was said since it was last asked, as step, kind and text.
    """

    def __init__(
        self,
        writer: Writer,
        latest: Callable[[], dict[str, float]],
        messages: Callable[[], list[tuple[int, str, str]]],
    ) -> None:
        self._writer, self._latest, self._messages = writer, latest, messages
        self._said: dict[str, float] = {}

    def forward(self, step: int) -> None:
        """Write down all that has changed."""
        latest = self._latest()
        for name, value in latest.items():
            if self._said.get(name) != value:
                self._writer.add_scalar(f"unstuck/{name}", value, step)
        self._said = latest
        for when, kind, message in self._messages():
            self._writer.add_text(f"unstuck/{kind}", message, when)
