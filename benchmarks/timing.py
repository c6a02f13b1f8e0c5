"""CPU time of contestants that take turns, so that a busy machine disturbs all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

Contestant = Callable[[], object]

_SHORTEST = 0.05  # seconds: what is quicker is done several times in a turn


@dataclass(frozen=True)
class Turns:
    """CPU seconds of one contestant, turn by turn."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median turn."""
        return median(self.seconds)

    def over(self, other: "Turns") -> "Ratio":
        """Compare with another contestant, turn by turn."""
        ratios = [mine / its for mine, its in zip(self.seconds, other.seconds, strict=True)]
        low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        return Ratio(median(ratios), low, high)


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of all turns, and their quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def take_turns(contestants: Mapping[str, Contestant], *, rounds: int) -> dict[str, Turns]:
    """Run all contestants `rounds` times, A B A B, after one turn each that does not count."""
    repeats = {name: max(1, round(_SHORTEST / max(cpu(run), 1e-6))) for name, run in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            begun = time.process_time()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((time.process_time() - begun) / repeats[name])
    return {name: Turns(tuple(turns)) for name, turns in seconds.items()}


def cpu(run: Contestant) -> float:
    """Time one call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun
