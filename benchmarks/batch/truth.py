"""What tuning every size by hand shows: steps and time to the target, in plain PyTorch."""

import copy
import math
import time
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.batch.tasks import SIZE, Task, begun

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
HELD = 512
ORDERS = 3
NEAR = (-1, 0, 1)
MOST = 3000


@dataclass(frozen=True)
class Tuned:
    """The best of one size: half octaves of the task's rate, steps on average over orders, seconds of a step."""

    halves: int
    steps: float
    seconds: float

    @property
    def time(self) -> float:
        """Seconds to the target."""
        return self.steps * self.seconds


def tuned(task: Task) -> dict[int, Tuned]:
    """Follow the best rate from the own size to larger and smaller ones, in half octaves, until it is inside."""
    state = begun(task, 1.0)
    found: dict[int, Tuned] = {SIZE: _best(task, state, SIZE, 0)}
    for way in (SIZES[SIZES.index(SIZE) + 1 :], SIZES[: SIZES.index(SIZE)][::-1]):
        halves = found[SIZE].halves
        for size in way:
            found[size] = _best(task, state, size, halves)
            halves = found[size].halves
    return dict(sorted(found.items()))


def _best(task: Task, state: tuple, size: int, halves: int) -> Tuned:
    steps: dict[int, float] = {}
    best = halves
    while True:
        for beside in NEAR:
            if best + beside not in steps:
                steps[best + beside] = _steps(
                    task, state, size, best + beside, 3 * min(steps.values(), default=MOST)
                )
        inside = min(steps, key=lambda each: (steps[each], each))
        if inside == best:
            return Tuned(best, steps[best], _seconds(task, state, size))
        best = inside


def _steps(task: Task, state: tuple, size: int, halves: int, most: float) -> float:
    counts = [
        _reached(task, state, size, task.rate * 2.0 ** (halves / 2), order, int(min(most, MOST)))
        for order in range(ORDERS)
    ]
    return sum(counts) / ORDERS


def _reached(task: Task, state: tuple, size: int, rate: float, order: int, most: int) -> float:
    model, optimizer = _copied(task, state, rate)
    drawn = torch.Generator().manual_seed(100 + order)
    held = torch.randperm(len(task.data[0]), generator=torch.Generator().manual_seed(5))[:HELD]
    rows: list[int] = []
    for step in range(1, most + 1):
        while len(rows) < size:
            rows += torch.randperm(len(task.data[0]), generator=drawn).tolist()
        chosen, rows = torch.tensor(rows[:size]), rows[size:]
        optimizer.zero_grad()
        task.evaluate(model, chosen).backward()
        optimizer.step()
        if step % max(1, 16 // size) == 0:
            with torch.no_grad():
                loss = float(task.evaluate(model, held))
            if not math.isfinite(loss) or loss > 1e3:
                return math.inf
            if loss <= task.target:
                return float(step)
    return math.inf


def _copied(task: Task, state: tuple, rate: float) -> tuple:
    model, kept = copy.deepcopy(state[0]), copy.deepcopy(state[1].state_dict())
    for group in kept["param_groups"]:
        group["lr"] = rate
    optimizer = task.optimizer(model.parameters(), rate)
    optimizer.load_state_dict(kept)
    return model, optimizer


def _seconds(task: Task, state: tuple, size: int) -> float:
    model, optimizer = _copied(task, state, 0.0)
    rows = torch.arange(size) % len(task.data[0])
    took = []
    for _ in range(30):
        begun_at = time.process_time()
        optimizer.zero_grad()
        task.evaluate(model, rows).backward()
        optimizer.step()
        took.append(time.process_time() - begun_at)
    return median(took)
