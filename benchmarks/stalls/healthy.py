"""Trainings that still improve: many tasks, rules, rates over time and batch sizes, each cut while it improves."""

import math
from bisect import bisect_right

import torch
from torch import nn

from benchmarks.stalls import recording
from benchmarks.stalls.recording import Recipe, Recording, Rule

# Healthy is what gains this much of its loss per doubling of the steps, over each window ...
GAINS = 0.04

# ... of these shares of the run, from when one could first ask, and well after a warm-up, ...
SHARES, EARLIEST, AFTER = (0.5, 0.25), 120, 1.5

# ... for so many steps at least.
SHORTEST = 300


def sgd(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=rate)


def momentum(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9)


def constant(_: int, __: int) -> float:
    return 1.0


def warm(step: int, steps: int) -> float:
    return min((step + 1) / (0.2 * steps), 1.0)


def cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def warm_cosine(step: int, steps: int) -> float:
    start = 0.1 * steps
    return (step + 1) / start if step < start else cosine(step - int(start), steps - int(start))


def stairs(step: int, steps: int) -> float:
    return 0.5 ** (4 * step // steps)


def one_cycle(step: int, steps: int) -> float:
    rise = 0.3 * steps
    return 0.04 + 0.96 * (step / rise if step < rise else cosine(step - int(rise), steps - int(rise)))


def cyclic(step: int, _: int) -> float:
    return 0.25 + 0.75 * abs(1 - (step % 200) / 100)


def swift(step: int, _: int) -> float:
    return 0.25 + 0.75 * abs(1 - (step % 20) / 10)


def restarts(step: int, _: int) -> float:
    return 0.05 + 0.95 * cosine(step % 500, 500)


def lengthening(step: int, _: int) -> float:
    """Warm restarts whose cycles double: 200, 400, 800 steps."""
    cycle = 200 * 2 ** int(math.log2(step / 200 + 1))
    return 0.05 + 0.95 * cosine(step - (cycle - 200), cycle)


def decaying(step: int, steps: int) -> float:
    return 1 / (1 + 10 * step / steps)


_TASKS = {
    "digits": recording.DIGITS,
    "linear": recording.LINEAR,
    "deep": recording.DEEP,
    "conv": recording.CONV,
    "autoencoder": recording.CODED,
    "patches": recording.PATCHES,
    "wine": recording.WINE,
    "iris": recording.IRIS,
    "cancer": recording.CANCER,
    "diabetes": recording.DIABETES,
    "mislabelled": recording.MISLABELLED,
    "lstm": recording.LSTM,
    "transformer": recording.TRANSFORMER,
}

_RULES: dict[str, Rule] = {
    "sgd": sgd,
    "momentum": momentum,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}

_CYCLES = {cyclic: 200, swift: 20, restarts: 500}
_RISES = {warm: 0.2, warm_cosine: 0.1, one_cycle: 0.3}

# Task, rule, rate, rate over time, batch size (0: all), steps, and what else.
_ROWS = (
    ("digits", "sgd", 0.05, constant, 32, 2500, {}),
    ("digits", "sgd", 0.02, constant, 4, 4000, {}),
    ("digits", "sgd", 0.2, constant, 0, 2000, {}),
    ("digits", "momentum", 0.01, cosine, 64, 2500, {}),
    ("digits", "adam", 3e-4, warm, 128, 2500, {}),
    ("digits", "adam", 1e-3, one_cycle, 32, 2000, {}),
    ("digits", "rmsprop", 1e-4, constant, 16, 2500, {}),
    ("digits", "adagrad", 0.01, constant, 16, 3000, {}),
    ("digits", "sgd", 0.1, cyclic, 32, 3000, {}),
    ("digits", "sgd", 0.1, swift, 16, 3000, {}),
    ("digits", "sgd", 0.1, restarts, 32, 3000, {}),
    ("digits", "sgd", 0.1, lengthening, 32, 3000, {}),
    ("digits", "sgd", 0.1, stairs, 32, 3000, {}),
    ("digits", "sgd", 0.05, constant, 8, 1500, {"parts": 4}),
    ("digits", "sgd", 0.05, constant, 8, 3000, {"smoothed": 0.9}),
    ("digits", "adamw", 1e-3, warm_cosine, 256, 1500, {}),
    ("linear", "sgd", 0.05, constant, 0, 3000, {}),
    ("linear", "sgd", 0.1, decaying, 16, 3000, {}),
    ("deep", "momentum", 0.01, constant, 32, 2000, {}),
    ("deep", "sgd", 0.05, warm_cosine, 16, 2500, {}),
    ("deep", "rmsprop", 2e-4, cosine, 64, 2000, {}),
    ("conv", "sgd", 0.02, constant, 16, 1500, {}),
    ("conv", "momentum", 0.005, cyclic, 32, 1500, {}),
    ("conv", "adam", 5e-4, cosine, 16, 1500, {}),
    ("conv", "adagrad", 0.01, constant, 32, 1200, {}),
    ("autoencoder", "adam", 1e-3, constant, 64, 2000, {}),
    ("autoencoder", "momentum", 0.05, warm, 32, 2500, {}),
    ("autoencoder", "rmsprop", 5e-4, restarts, 32, 2500, {}),
    ("autoencoder", "adam", 2e-3, one_cycle, 0, 800, {}),
    ("patches", "adam", 1e-3, constant, 32, 3000, {}),
    ("patches", "adam", 2e-3, cosine, 128, 2000, {}),
    ("patches", "sgd", 0.2, constant, 64, 2500, {}),
    ("wine", "sgd", 0.05, constant, 8, 3000, {}),
    ("wine", "adam", 1e-3, cyclic, 16, 2500, {}),
    ("wine", "adagrad", 0.02, constant, 0, 2500, {}),
    ("iris", "sgd", 0.05, constant, 8, 3000, {}),
    ("iris", "momentum", 0.01, swift, 16, 2500, {}),
    ("iris", "adam", 1e-3, constant, 0, 2500, {}),
    ("cancer", "sgd", 0.05, constant, 16, 3000, {}),
    ("cancer", "adam", 5e-4, stairs, 32, 2500, {}),
    ("cancer", "momentum", 0.005, decaying, 8, 2500, {}),
    ("diabetes", "adam", 1e-3, constant, 32, 3000, {}),
    ("diabetes", "momentum", 0.01, warm, 16, 3000, {}),
    ("diabetes", "adam", 1e-3, constant, 0, 1500, {}),
    ("diabetes", "sgd", 0.02, restarts, 8, 3000, {}),
    ("mislabelled", "sgd", 0.1, constant, 16, 3000, {}),
    ("mislabelled", "adam", 1e-3, warm, 32, 2500, {}),
    ("mislabelled", "momentum", 0.02, constant, 0, 2000, {}),
    ("linear", "sgd", 0.02, constant, 4, 8000, {}),
    ("digits", "momentum", 0.001, constant, 4, 8000, {}),
    ("patches", "adam", 3e-4, constant, 4, 8000, {}),
    ("autoencoder", "adam", 3e-4, constant, 4, 8000, {}),
    ("cancer", "sgd", 0.01, constant, 4, 8000, {}),
    ("mislabelled", "sgd", 0.02, constant, 4, 8000, {}),
    ("diabetes", "sgd", 0.02, constant, 4, 8000, {}),
    ("lstm", "momentum", 0.2, constant, 4, 4000, {}),
    ("lstm", "adam", 3e-3, constant, 16, 1500, {}),
    ("lstm", "rmsprop", 2e-3, warm_cosine, 32, 1200, {}),
    ("transformer", "adam", 2e-3, constant, 32, 1500, {}),
    ("transformer", "adamw", 3e-3, warm_cosine, 16, 1500, {}),
    ("transformer", "momentum", 0.05, constant, 32, 1500, {}),
    ("transformer", "adam", 2e-3, cyclic, 16, 1500, {}),
)


def _recipe(
    task: str, rule: str, rate: float, schedule: recording.Schedule, size: int, *rest: object
) -> Recipe:
    steps, more = rest
    extra = "".join(f" {key} {value}" for key, value in more.items())
    name = f"{task} {rule} {rate:g} {schedule.__name__} {size or 'all'}{extra}"
    cycle, rise = _CYCLES.get(schedule, 1), round(_RISES.get(schedule, 0) * steps)
    return Recipe(
        name, _TASKS[task], _RULES[rule], rate, schedule, size, steps, cycle=cycle, rise=rise, **more
    )


RECIPES = tuple(_recipe(*row) for row in _ROWS)


def improving(recorded: Recording, cycle: int = 1, rise: int = 0) -> int:
    """Give the step up to which the loss of all the data falls over every window, at the pace that is asked for.

    The loss of all the data knows no batch noise; it is averaged over the past cycle of the rate, or 5 % of the run.
    """
    curve = smoothed(recorded.whole, cycle)
    steps = [step for step, _ in curve]
    last = 0
    for step, value in curve:
        if step < max(EARLIEST, AFTER * rise):
            continue
        for share in SHARES:
            before = curve[max(bisect_right(steps, step * (1 - share)) - 1, 0)]
            if value > before[1] * (1 - GAINS * math.log2(step / before[0])):
                return last
        last = step
    return last


def smoothed(curve: list[tuple[int, float]], cycle: int) -> list[tuple[int, float]]:
    found = []
    for step, _ in curve:
        width = max(cycle, 0.05 * step)
        near = [value for at, value in curve if step - width < at <= step]
        found.append((step, sum(near) / len(near)))
    return found
