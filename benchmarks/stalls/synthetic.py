"""Made-up curves of which everything is known: how they fall, when they stop, and what noise is on them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Curve]


@dataclass(frozen=True)
class Family:
    """Curves alike but for the draw of their noise."""

    name: str
    course: Curve
    noise: Noise
    size: float
    added: bool = False
    rates: Curve | None = None

    def draw(self, seed: int) -> Curve:
        """Noise is in proportion to the loss, as batch noise mostly is, or of the same size throughout."""
        noise = self.size * self.noise(np.random.default_rng(seed), len(self.course))
        return self.course + noise if self.added else self.course * (1 + noise)


def white(rng: np.random.Generator, count: int) -> Curve:
    return rng.standard_normal(count)


def heavy(rng: np.random.Generator, count: int) -> Curve:
    """Student's of 3 degrees of freedom, to variance 1."""
    return rng.standard_t(3, count) / math.sqrt(3)


def skewed(rng: np.random.Generator, count: int) -> Curve:
    """The log-normal law of small batches in which a few examples make the loss, to mean 0 and variance 1."""
    return (np.exp(rng.standard_normal(count)) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)


def correlated(correlation: float, rng: np.random.Generator, count: int) -> Curve:
    from scipy.signal import lfilter

    fresh = math.sqrt(1 - correlation**2) * rng.standard_normal(count)
    fresh[0] = rng.standard_normal()
    return lfilter([1.0], [1.0, -correlation], fresh)


def mixed(rng: np.random.Generator, count: int) -> Curve:
    """White noise of batches on a slow wander of the parameters, which has a tenth of the variance."""
    return math.sqrt(0.9) * white(rng, count) + math.sqrt(0.1) * correlated(0.97, rng, count)


NOISES: dict[str, Noise] = {
    "white": white,
    "heavy tails": heavy,
    "skewed": skewed,
    "correlated 10 steps": partial(correlated, 0.9),
    "correlated 100 steps": partial(correlated, 0.99),
    "white and slow": mixed,
}
SIZES = (0.01, 0.1, 0.5)
STEPS = 3000

_T = np.arange(1, STEPS + 1, dtype=float)
_COURSES = {
    "power 0.05": _T**-0.05,
    "power 0.1": _T**-0.1,
    "power 0.3": _T**-0.3,
    "power 0.5": _T**-0.5,
    "exponential": np.exp(-3 * _T / STEPS),
    "straight line": 1.2 - _T / STEPS,
}
_PHASE = np.sin(2 * np.pi * _T / 150)


def healthy() -> list[Family]:
    """Give every course with every noise of every size, curves with an offset, below zero, and under cyclic rates."""
    families = [
        Family(f"{course}, {noise}, {size:.0%}", values, law, size)
        for course, values in _COURSES.items()
        for noise, law in NOISES.items()
        for size in SIZES
    ]
    for noise, law in NOISES.items():
        families += [
            Family(f"offset, {noise}", 100 - 0.1 * np.log2(_T[:900]), law, 0.02, added=True),
            Family(f"log-likelihood, {noise}", 20 - 3 * np.log(_T), law, 1.0, added=True),
            Family(f"cyclic rate, {noise}", _T**-0.1 * (1 + 0.2 * _PHASE), law, 0.1, rates=1 + 0.9 * _PHASE),
        ]
    return families


def at_the_bound() -> list[Family]:
    """Give the slowest power law that is not stalled by definition: 2.1 % per doubling."""
    return [Family(noise, _T**-0.03, law, size) for noise, law in NOISES.items() for size in (0.1, 0.3)]


ONSETS = (200, 1000)
STALLED_NOISES = (0.0, 0.01, 0.03, 0.1)
HORIZON = 20


def stalled() -> list[tuple[int, Family]]:
    """Give curves that fall by a power law or exponentially and then stand still, each with its onset."""
    found = []
    for onset in ONSETS:
        steps = np.minimum(np.arange(1, HORIZON * onset + 1), onset).astype(float)
        courses = {"power 0.3": steps**-0.3, "exponential": np.exp(-3 * steps / onset)}
        for course, values in courses.items():
            for noise in ("white", "correlated 10 steps"):
                for size in STALLED_NOISES:
                    name = f"{course} to step {onset}, {noise}, {size:.0%}"
                    found.append((onset, Family(name, values, NOISES[noise], size)))
    return found
