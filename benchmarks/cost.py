"""What a verdict costs, for tanh networks of a thousand to a million parameters.

Each is trained for a while on the digits, then diagnosed with a budget that it cannot use up, so that what is
spent is what the answer took.
"""

import resource
import time

import torch
from torch.nn import functional

import unstuck
from benchmarks.tables import Table
from benchmarks.workloads import batches, perceptron

HIDDEN = (13, 64, 280, 950)
EPOCHS = 30
BUDGET = 600.0


def run() -> list[Table]:
    """Diagnose networks of growing size."""
    rows = [_diagnose(width) for width in HIDDEN]
    columns = (
        "parameters",
        "gradients",
        "products",
        "CPU s",
        "of that, gradients",
        "engine",
        "cause",
        "point",
        "complete",
        "peak MB so far",
    )
    note = "Gradients over the sample; `of that`: their number times the CPU time of one, over the CPU time."
    return [Table("Cost of a verdict", columns, rows, note)]


def _diagnose(width: int) -> list[object]:
    training = trained(width)
    size = sum(parameter.numel() for parameter in training.model.parameters())
    single = _gradient(training)
    begun = time.process_time()
    diagnosis = unstuck.diagnose(training, budget=BUDGET, trials=False)
    seconds = time.process_time() - begun
    cost, sample = diagnosis.verdict.cost, diagnosis.verdict.measured.sample
    share = cost.gradients * single * sample.examples / 1797 / seconds
    return [
        size,
        round(cost.gradients),
        cost.products,
        seconds,
        f"{share:.0%}",
        cost.engine,
        diagnosis.cause.value if diagnosis.cause else "none",
        diagnosis.point.kind.value,
        diagnosis.complete,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    ]


def trained(width: int) -> unstuck.Training:
    """Train a network with two hidden layers of this width by momentum, and hand it over as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = perceptron(64, width, width, 10)
    loss = unstuck.supervised(functional.cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in batches():
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    return unstuck.Training(model, loss, list(batches()), optimizer)


def _gradient(training: unstuck.Training) -> float:
    """CPU seconds of one gradient over all data, the best of three."""
    seconds: list[float] = []
    for _ in range(3):
        begun = time.process_time()
        for batch in training.data:
            training.loss(training.model, batch).backward()
        seconds.append(time.process_time() - begun)
    training.model.zero_grad()
    return min(seconds)
