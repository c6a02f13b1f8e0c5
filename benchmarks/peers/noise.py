"""The gradient noise scale: accuracy and CPU time against gns-pytorch and Cockpit.

Everybody gets the same examples, 128 or 1024 drawn at random from 1797 digits, at the same place of a training, and
says at which batch size noise and signal are equal: tr(Sigma) / |G|^2 over all the data, which is known exactly here
from the gradients of all examples in float64. `e` is the tanh MLP after one epoch, a, b and c as in the other tables
(trained; a so far that the mean gradient drowns in the noise of 128 examples).

- unstuck: by single examples, as `unstuck batch` does, many at a time out of one backward pass; by pieces of four;
  and by single examples one by one, as it does where a model or a loss cannot be evaluated many at a time.
- gns-pytorch: all tensors and all examples, by its loop and by its vmap; as its README calls it (a random choice of
  tensors, a quarter of the batch); and the mean over four batches of 32, as its README advises to smooth.
- Cockpit: its norm test is the root of tr(Sigma) / (B |g|^2) with the batch's own gradient g, whose noise is still in
  it; as it is, and put right by hand.

Both of us and Cockpit take what is needed of all examples from one backward pass; Cockpit where BackPACK knows every
layer (not those of c), we where PyTorch's vmap can evaluate the loss. Ours has a price that does not grow with the
examples, some 10 ms on these networks: to learn how the loss is evaluated without the training noticing, whether
examples meet within a batch, and whether two of them come out as by themselves. With 128 examples that is most of it
on networks as small as a and e, and Cockpit is cheaper there, and on b a little; with 1024 it is dearer on all three.

`over the truth` is the median of the answers (and quartiles) over the truth; CPU times in turns of one process, from
the model and the batch to the answer; the last column over our first row: above 1 we are cheaper.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.peers.cockpits import Watched, still
from benchmarks.peers.estimated import habits
from benchmarks.peers.invited import COCKPIT, GNS, present
from benchmarks.tables import Table
from benchmarks.timing import take_turns
from benchmarks.workloads import Workload, batches, perceptron, workloads
from unstuck.batch.gradients import GROUPS, grouped
from unstuck.batch.noise import measure_noise
from unstuck.batch.pool import Pieces, of, separable
from unstuck.batch.records import Scale
from unstuck.objective import Batch, Objective

EXAMPLES, SMALLER, CHECKED = 128, 32, 16
MORE = 1024
DRAWS = {"e": 12, "a": 12, "b": 8, "c": 4}
ROUNDS = {"e": 5, "a": 5, "b": 3, "c": 2}
# Of so many examples the loops would take minutes, and the fastest of each is enough.
OF_MORE = {
    ("unstuck", "single examples"), (GNS.name, "as its README"), (COCKPIT.name, "put right by hand")
}  # fmt: skip
COLUMNS = (
    "workload", "truth", "contestant", "how", "answers", "over the truth", "truth inside", "CPU s", "CPU s over ours"
)  # fmt: skip

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Way:
    """One way to ask: gives a value, or an interval with it."""

    who: str
    how: str
    ask: Callable[[Pair], float | Scale]


def run(only: Sequence[str] | None = None, peers: Sequence[str] | None = None) -> list[Table]:
    """Ask everybody."""
    invited = {peer.name for peer in present((GNS, COCKPIT), peers)}
    rows: dict[int, list[list[object]]] = {EXAMPLES: [], MORE: []}
    for workload in (_early(), *workloads()):
        if only is None or workload.key in only:
            for count in rows:
                rows[count] += _compared(workload, invited, count)
    tables = [
        Table(f"A noise scale from {count} examples", COLUMNS, found, keys=4) for count, found in rows.items()
    ]
    return [*tables, habits(invited)]


def _compared(workload: Workload, invited: set[str], count: int) -> list[list[object]]:
    truth = _truth(workload)
    drawn = list(_drawn(workload, count))
    asked = [way for way in _ways(workload) if count == EXAMPLES or (way.who, way.how) in OF_MORE]
    ways = _working([way for way in asked if way.who in {"unstuck", *invited}], drawn[0])
    turns = take_turns(
        {f"{way.who} {way.how}": lambda way=way: way.ask(drawn[0]) for way in ways},
        rounds=ROUNDS[workload.key],
    )
    first = turns[f"{ways[0].who} {ways[0].how}"]
    rows: list[list[object]] = []
    for way in ways:
        found = [way.ask(pair) for pair in drawn]
        taken = turns[f"{way.who} {way.how}"]
        ratio = "" if way is ways[0] else taken.over(first)
        told = [workload.key, truth, way.who, way.how, *_judged(found, truth), taken.median, ratio]
        rows.append(told)
    return rows


def _working(ways: Sequence[Way], pair: Pair) -> list[Way]:
    """Leave out who cannot answer at all; that is in the table of what each cannot do."""
    kept = []
    for way in ways:
        try:
            way.ask(pair)
        except Exception:  # noqa: S112 - a peer that does not know a layer raises anything
            continue
        kept.append(way)
    return kept


def _judged(found: Sequence[float | Scale], truth: float) -> tuple[str, str, str]:
    """How many answers there are, how near, and how often an interval holds the truth."""
    scales = [each for each in found if isinstance(each, Scale)]
    values = [_value(each) for each in found]
    known = [value / truth for value in values if math.isfinite(value)]
    near = "" if not known else "{1:.2f} ({0:.2f}-{2:.2f})".format(*np.quantile(known, (0.25, 0.5, 0.75)))
    inside = sum(scale.low <= truth <= scale.high for scale in scales)
    return f"{len(known)} of {len(found)}", near, f"{inside} of {len(scales)}" if scales else "no interval"


def _value(found: float | Scale) -> float:
    if isinstance(found, Scale):
        return math.nan if found.estimate is None else found.estimate.value
    return found


def _ways(workload: Workload) -> Iterator[Way]:
    yield Way("unstuck", "single examples", lambda pair: _ours(workload, pair, 1))
    yield Way("unstuck", "pieces of four", lambda pair: _ours(workload, pair, 4))
    yield Way("unstuck", "one by one", lambda pair: _ours(workload, pair, 1, singly=True))
    for fast in (False, True):
        name = "vmap" if fast else "loop"
        yield Way(GNS.name, f"all, {name}", lambda pair, fast=fast: _gns(workload, pair, 1.0, 1.0, fast=fast))
    yield Way(GNS.name, "as its README", lambda pair: _gns(workload, pair, 0.01, 0.25, fast=False))
    yield Way(GNS.name, "mean of four batches", lambda pair: _smoothed(workload, pair))
    yield Way(COCKPIT.name, "as it is", lambda pair: _cockpit(workload, pair, mended=False))
    yield Way(COCKPIT.name, "put right by hand", lambda pair: _cockpit(workload, pair, mended=True))


def _ours(workload: Workload, pair: Pair, size: int, *, singly: bool = False) -> Scale:
    # All the data are known to be 1797, as `unstuck batch` learns from a data set's length.
    few = Workload(workload.key, workload.title, workload.model, (pair,))
    pool = of(few.training, few.drawn())
    # The loss is checked on a few: what is needed of it here is how to evaluate it.
    objective = Objective(few.training, [pool.update(range(CHECKED), 0)[0]])
    apart = separable(pool, objective)
    pieces: Sequence[Batch] = Pieces(pool, range(pool.examples), size)
    groups = min(GROUPS, len(pieces) // 2)
    found = grouped(objective, list(pieces) if singly else pieces, groups, seed=0, signed=False)
    return measure_noise(found, total=workload.examples, separable=apart).simple


def _gns(workload: Workload, pair: Pair, tensors: float, share: float, *, fast: bool) -> float:
    from gns_pytorch import compute_gns

    inputs, targets = pair
    # The fused kernel has no rule for vmap.
    with sdpa_kernel(SDPBackend.MATH):
        losses = functional.cross_entropy(workload.model(inputs), targets, reduction="none")
        return compute_gns(losses, workload.model, tensors, share, use_vmap=fast)


def _smoothed(workload: Workload, pair: Pair) -> float:
    parts = zip(*(part.split(SMALLER) for part in pair), strict=True)
    return float(np.mean([_gns(workload, part, 1.0, 1.0, fast=False) for part in parts]))


def _cockpit(workload: Workload, pair: Pair, *, mended: bool) -> float:
    watched = Watched(workload.model, still, lambda: pair, ("NormTest",))
    watched.step()
    squared, size = watched.last("NormTest") ** 2, len(pair[1])
    # Of |g|^2 the share `squared` is noise.
    if not mended:
        return size * squared
    return size * squared / (1.0 - squared) if squared < 1.0 else math.nan


def _drawn(workload: Workload, count: int) -> Iterator[Pair]:
    inputs, targets = _whole(workload)
    for seed in range(DRAWS[workload.key]):
        rows = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:count]
        yield inputs[rows], targets[rows]


def _whole(workload: Workload) -> Pair:
    inputs, targets = (torch.cat(parts) for parts in zip(*workload.batches, strict=True))
    return inputs, targets


def _truth(workload: Workload) -> float:
    """From the gradients of all examples, which come one by one from `torch.func`."""
    inputs, targets = _whole(workload)
    own = {name: piece.detach().double() for name, piece in workload.model.named_parameters()}
    buffers = {
        name: buffer.double() if buffer.is_floating_point() else buffer
        for name, buffer in workload.model.named_buffers()
    }

    def loss(parameters: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(workload.model, {**parameters, **buffers}, (example[None],))
        return functional.cross_entropy(outputs, target[None])

    total: Tensor | None = None
    squares = 0.0
    with sdpa_kernel(SDPBackend.MATH):
        for some, classes in zip(inputs.double().split(64), targets.split(64), strict=True):
            found = vmap(grad(loss), (None, 0, 0))(own, some, classes)
            rows = torch.cat([piece.detach().flatten(1) for piece in found.values()], dim=1)
            squares += float(rows.square().sum())
            total = rows.sum(0) if total is None else total + rows.sum(0)
    assert total is not None
    count = len(targets)
    signal = float((total / count).square().sum())
    return (squares - count * signal) / (count - 1) / signal


def _early() -> Workload:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = perceptron(64, 64, 64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for inputs, targets in batches():
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Workload("e", "a after one epoch", model.eval(), batches())
