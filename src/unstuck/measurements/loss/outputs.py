"""How low the loss can go with outputs as the model is built, and with any outputs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unstuck.estimate import weighted_mean
from unstuck.measurements.judging import Judge
from unstuck.measurements.loss.cosines import floor_of_cosines
from unstuck.measurements.loss.floors import Function, descend, domain, least, value
from unstuck.measurements.loss.tape import Call, Tail, Trace, constants, reorders, tail, trace
from unstuck.measurements.records.outputs import LEFT, Outputs
from unstuck.objective.generators import generators_kept
from unstuck.training import Training

# A floor by construction shows on any batch; a second one guards against a freak.
_BATCHES = 2

# Minimising over more outputs than this, as of large vocabularies, takes too long.
_LARGEST = 2_000_000

# What is left of the room between the loss and the free floor counts as none.
_SETTLED = 0.02

# Two searches agree on a floor to this share of what it decides about: the room above it, or what counts as learnt.
_APART = 0.02

# Of the loss, what is less than this share counts as zero.
ZERO = 1e-3

# A floor below this share of the loss changes nothing.
_WORTH = 0.1

# Rows of probabilities sum to one up to the rounding of half precision.
_SUMS = 1e-2

# Natural logarithm of the sum of a row's exponentials: 0 for log-probabilities; label smoothing by hand, clamping
# and masking move it by hundredths, and for two or more probabilities it is at least 1.
_NORMALISED = 0.2

# How near, in mean square, the built outputs are brought to the best ones before the loss itself is minimised.
_MISS = 1e-6

_SHAPING = {
    *("view", "reshape", "squeeze", "unsqueeze", "flatten", "unflatten", "permute", "transpose", "t", "T"),
    *("getitem", "contiguous", "clone", "float", "double", "to", "type", "get", "pad", "chunk", "split"),
    *("unbind", "select", "narrow", "swapaxes", "movedim", "moveaxis", "view_as", "mT", "identity"),
}

_LOG_PROBABILITIES = ("nll_loss", "kl_div")

# Criteria that take classes along one axis, and where the layers put their features.
_BY_CLASS = ("cross_entropy", "nll_loss")
_FEATURES = {"linear": -1, "matmul": -1, "conv": 1, "conv_transpose": 1}


def measure_outputs(training: Training, judge: Judge) -> Outputs:
    """Compare the least loss over the last layer's outputs with the least over what the criterion is given.

    Both are minima over tensors, for fixed targets, so that no model is evaluated: costs half a gradient of
    up to two batches.

    Raises:
        MeasurementError: The loss does not show how outputs and targets meet.
    """
    objective = judge.objective
    found: list[Outputs] = []
    weights: list[float] = []
    for index in judge.halves.finds[:_BATCHES]:
        with generators_kept():
            found.append(_look(trace(training, objective, objective.batches[index])))
        weights.append(objective.weights[index])
        if not found[-1].misfit and not _restricts(found[-1]) and found[-1].floor is None:
            break  # what does not show on one batch is not by construction
    return _together(found, weights)


def _restricts(outputs: Outputs) -> bool:
    return outputs.built is not None and outputs.share > 0.0


def _together(found: Sequence[Outputs], weights: Sequence[float]) -> Outputs:
    def mean(values: Sequence[float | None]) -> float | None:
        numbers = [number for number in values if number is not None]
        return weighted_mean(numbers, weights).value if len(numbers) == len(values) else None

    last = found[-1]
    same = len({outputs.misfit for outputs in found}) == 1
    return replace(
        last,
        loss=mean([outputs.loss for outputs in found]) or 0.0,
        built=mean([outputs.built for outputs in found]),
        free=mean([outputs.free for outputs in found]),
        misfit=last.misfit if same else "",
        batches=len(found),
        floor=mean([outputs.floor for outputs in found]),
        blind=mean([outputs.blind for outputs in found]),
    )


def _look(traced: Trace) -> Outputs:
    built = tail(traced)
    free, ends = free_end(built)
    call = criterion(free)
    outputs = Outputs(call.name if call else "", ends, float(traced.loss.detach()))
    if call is None or sum(tensor.numel() for tensor in built.present()) > _LARGEST:
        return outputs
    outputs = replace(
        outputs, misfit=_misfit(free, call) or (_constant if ends else _scrambled)(built, free, call)
    )
    if outputs.misfit == "broadcast":
        return _broadcast(free, call, outputs)
    if not outputs.misfit:
        blind = _blind(built)
        outputs = replace(outputs, floor=_floor(built, outputs.loss, blind), blind=blind)
        outputs = replace(outputs, misfit="" if ends else _indifferent(outputs, free, call))
    if not outputs.misfit and (lowest := floor_of_cosines(built, outputs.loss, _SHAPING)) is not None:
        return _of_cosines(outputs, free, call, lowest)
    if ends:
        return _with_floors(outputs, built, free)
    if outputs.misfit == "probabilities" and call.name == "cross_entropy":
        return _with_floors(outputs, free, free, ending=lambda given: torch.softmax(given, _classes(given)))
    return outputs


def _of_cosines(outputs: Outputs, free: Tail, call: Call, lowest: float) -> Outputs:
    """Compare the floor of products of rows of fixed lengths with that of any scores."""
    unbound = value(free, least(free, [free.present()], ZERO * outputs.loss))
    if not -ZERO * outputs.loss <= unbound <= lowest:
        return outputs
    return replace(
        outputs, misfit="cosines", built=lowest, free=unbound, shapes=(tuple(_given(free, call).shape),)
    )


def free_end(built: Tail) -> tuple[Tail, tuple[str, ...]]:
    """Give the part of a tail that begins where outputs meet their targets, and what they go through before."""
    outer, ends = _meeting(built)
    return built.since(outer), ends


def _meeting(built: Tail) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Follow each start up to where it meets something fixed; give where that is, and what is on the way."""
    tape = built.tape
    outer: set[int] = set()
    names: list[str] = []
    for number in built.starts:
        reached = number
        while True:
            users = [index for index in built.calls if reached in tape.calls[index].uses]
            if len(users) != 1 or _meets(built, tape.calls[users[0]]):
                break
            made = [n for n, node in enumerate(tape.nodes) if node.call == users[0]]
            if len(made) != 1 or not tape.nodes[made[0]].tensor.ndim:
                break
            reached = made[0]
            names.append(tape.calls[users[0]].name)
        outer.add(reached)
    return tuple(sorted(outer)), tuple(name for name in dict.fromkeys(names) if name not in _SHAPING)


def _meets(built: Tail, call: Call) -> bool:
    return bool(constants(built.tape, call))


def criterion(free: Tail) -> Call | None:
    """The first call in which the outputs meet something fixed, their targets."""
    calls = (free.tape.calls[index] for index in free.calls)
    return next((call for call in calls if set(free.starts) & set(call.uses) and _meets(free, call)), None)


def _given(free: Tail, call: Call) -> Tensor:
    return free.tape.nodes[next(number for number in call.uses if number in free.starts)].tensor.detach()


def _classes(given: Tensor) -> int:
    return 1 if given.ndim > 1 else 0


def _misfit(free: Tail, call: Call) -> str:
    given = _given(free, call)
    if not given.ndim or not given.is_floating_point() or not bool(given.isfinite().all()):
        return ""
    targets = [tensor for tensor in constants(free.tape, call) if not reorders(tensor)]
    if any(_broadcasts(given, target) for target in targets[:1]):
        return "broadcast"
    if call.name == "binary_cross_entropy_with_logits" and any(map(_beyond_one, targets[:1])):
        return "unbounded"
    if call.name in ("cross_entropy", *_LOG_PROBABILITIES) and _are_probabilities(given):
        return "probabilities"
    return "unnormalised" if call.name == "nll_loss" and _unnormalised(given) else ""


def _beyond_one(target: Tensor) -> bool:
    """Whether targets are no probabilities: outputs of the right sign then lower the loss for ever."""
    return float(target.min()) < 0.0 or float(target.max()) > 1.0


def _constant(built: Tail, free: Tail, _call: Call) -> str:
    """Whether the criterion is given the same numbers whatever the last layer puts out, as by a softmax over one."""
    drawn = torch.Generator().manual_seed(0)
    noise = [torch.randn(t.shape, generator=drawn).to(t.device, t.dtype) for t in built.present()]
    # What is saturated or dead where the run is gives other numbers elsewhere.
    tried = [built.at(values, free.starts) for values in (built.present(), noise, [10.0 * t for t in noise])]
    same = all(
        torch.equal(one, first) for each in tried[1:] for one, first in zip(each, tried[0], strict=True)
    )
    return "constant" if same else ""


def _unnormalised(given: Tensor) -> bool:
    """Whether most rows are no log-probabilities: some come near by chance; what a mask has filled is not asked."""
    axis = _classes(given)
    sums, filled = torch.logsumexp(given.float(), axis), given.amax(axis) == given.amin(axis)
    rows = sums[~filled] if not bool(filled.all()) else sums.flatten()
    return float(rows.abs().median()) > _NORMALISED


def _are_probabilities(given: Tensor) -> bool:
    axis = _classes(given)
    if given.shape[axis] < 2 or bool((given < 0.0).any()):  # noqa: PLR2004 - one class is no choice
        return False
    return float((given.float().sum(axis) - 1.0).abs().max()) < _SUMS


def _scrambled(built: Tail, free: Tail, call: Call) -> str:
    """Whether a view makes classes of what are different places: of one channel, or of one step's neighbours.

    Only where the last layer has as many features as there are classes: where it has one, to choose among places is
    meant.
    """
    if call.name not in _BY_CLASS or len(built.starts) != 1 or len(free.starts) != 1:
        return ""
    given, last = _given(free, call), built.tape.nodes[built.starts[0]]
    made = "" if last.call is None else built.tape.calls[last.call].name
    axis = _FEATURES.get(made.rstrip("123d"))
    if axis is None or last.tensor.ndim < 3:  # noqa: PLR2004 - no places beside examples and classes
        return ""
    classes = given.shape[_classes(given)]
    if classes < 2 or last.tensor.shape[axis] != classes:  # noqa: PLR2004 - one class is no choice
        return ""
    shape = list(last.tensor.shape)
    shape[axis] = 1
    places = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(last.tensor)
    seen = built.at([places.expand(last.tensor.shape).contiguous()], free.starts)[0]
    first = seen.narrow(_classes(given), 0, 1)
    return "" if bool((seen == first).all()) else "scrambled"


def _broadcasts(given: Tensor, target: Tensor) -> bool:
    """Whether one is a column and the other a row of the same length, so that their difference is a square."""
    if given.numel() != target.numel() or abs(given.ndim - target.ndim) != 1 or given.numel() < 2:  # noqa: PLR2004
        return False
    longer, shorter = (given, target) if given.ndim > target.ndim else (target, given)
    if longer.shape != (*shorter.shape, 1):
        return False
    both = torch.broadcast_shapes(longer.shape, shorter.shape)
    return math.prod(both) > longer.numel()


def _broadcast(free: Tail, call: Call, outputs: Outputs) -> Outputs:
    """Compare the floor with shapes as they are with that of outputs in the targets' shape."""
    target = constants(free.tape, call)[0]
    given = _given(free, call)
    outputs = replace(outputs, ends=(), shapes=(tuple(given.shape), tuple(target.shape)))
    if len(free.starts) != 1:
        return replace(outputs, misfit="")
    as_is = value(free, least(free, [free.present()], ZERO * outputs.loss))
    fitted = target.detach().to(given.dtype)

    def fitting(values: Sequence[Tensor]) -> Tensor:
        return free([values[0].reshape(target.shape)])

    aligned = value(fitting, least(fitting, [[fitted], free.present()], ZERO * outputs.loss))
    return replace(outputs, built=as_is, free=aligned)


def _with_floors(
    outputs: Outputs, built: Tail, free: Tail, ending: Callable[[Tensor], Tensor] | None = None
) -> Outputs:
    maps = domain(free, free.present())
    # A loss that is negative, or may become so, as a likelihood of densities, has no floor to speak of.
    if maps is None or outputs.loss <= 0.0:
        return outputs
    onto, back = maps

    def anything(values: Sequence[Tensor]) -> Tensor:
        return free([onto(tensor) for tensor in values])

    start = [back(tensor) for tensor in free.present()]
    targets = _targets(free, start, back)
    best = least(anything, [start, *targets], ZERO * outputs.loss)
    floor = value(anything, best)
    if not -ZERO * outputs.loss <= floor < math.inf:
        return outputs
    wanted = [onto(tensor) for tensor in best]
    function: Function = built
    present = built.present()
    if ending is not None:
        ends = ending
        present = [tensor.clamp(min=1e-6).log() for tensor in present]
        function = lambda values: built([ends(tensor) for tensor in values])  # noqa: E731
    enough = floor + _SETTLED * max(outputs.loss - floor, 0.0)
    lowest = value(function, least(function, _starts(built, free, present, wanted), enough))
    return replace(outputs, built=max(min(lowest, outputs.loss), floor), free=floor)


def _floor(built: Tail, loss: float, blind: float | None) -> float | None:
    """Give the least loss over the last layer's outputs, if two searches agree on it and it is worth the name.

    At the floor itself no room is left to agree on: what counts as all learnt, see `Outputs.learnt`, is then what the
    searches must tell.
    """
    tape = built.tape
    used = {number for index in built.calls for number in tape.calls[index].uses}
    penalised = any(tape.nodes[number].learnt and not tape.nodes[number].data for number in used)
    if loss <= 0.0 or penalised:
        return None  # what parameters cost by themselves they could do without
    present = built.present()
    drawn = torch.Generator().manual_seed(0)
    noise = [torch.randn(t.shape, generator=drawn).to(t.device, t.dtype) for t in present]
    found: list[float] = []
    for start in (present, noise):
        found.append(value(built, descend(built, start, _WORTH * loss)))
        if not found[-1] > _WORTH * loss:
            return None
    lowest = min(found)
    if not lowest <= loss:
        return None
    told = max(loss - lowest, 0.0 if blind is None else LEFT * (blind - lowest))
    return lowest if max(found) - lowest <= _APART * told else None


def _indifferent(outputs: Outputs, free: Tail, call: Call) -> str:
    """Whether one output for all is as good as any, the targets themselves too, though these differ."""
    if outputs.floor is None or outputs.blind is None or outputs.blind - outputs.floor > ZERO * outputs.floor:
        return ""
    given = _given(free, call)
    targets = [t.to(given.dtype) for t in constants(free.tape, call) if t.shape == given.shape]
    if len(free.starts) != 1 or not any(bool((t != t[:1]).any()) for t in targets):
        return ""  # where there is no slope anywhere, a search ends where it begins
    lowest = value(free, least(free, [[target] for target in targets]))
    return "indifferent" if lowest >= (1.0 - ZERO) * outputs.floor else ""


def _blind(built: Tail) -> float | None:
    """Give the least loss over one output for all examples."""
    present = built.present()
    if any(not tensor.ndim for tensor in present):
        return None

    def same(rows: Sequence[Tensor]) -> Tensor:
        return built([row.expand_as(tensor) for row, tensor in zip(rows, present, strict=True)])

    means = [tensor.mean(0, keepdim=True) for tensor in present]
    # The mean of outputs that have run wild may lie where nothing leads down from.
    starts = (means, [torch.zeros_like(mean) for mean in means])
    lowest = min(value(same, descend(same, start, -math.inf)) for start in starts)
    return lowest if math.isfinite(lowest) else None


def _targets(free: Tail, start: Sequence[Tensor], back: Callable[[Tensor], Tensor]) -> list[list[Tensor]]:
    """Starts at the targets themselves, where they have the outputs' shape."""
    call = criterion(free)
    if call is None or len(start) != 1:
        return []
    found = [tensor.detach() for tensor in constants(free.tape, call)]
    return [[back(t.to(start[0].dtype))] for t in found if t.shape == start[0].shape]


def _starts(
    built: Tail, free: Tail, present: list[Tensor], wanted: Sequence[Tensor]
) -> list[Sequence[Tensor]]:
    """Where to look from: nearest to the free optimum, there itself, at the point, and at random.

    A dead ReLU or a saturated sigmoid at the point has no slope to follow, and must not pass for a floor.
    """
    drawn = torch.Generator().manual_seed(0)
    noise = [torch.randn(t.shape, generator=drawn).to(t.device, t.dtype) for t in present]
    starts: list[Sequence[Tensor]] = [present, noise, [tensor.abs() for tensor in noise]]
    if [tensor.shape for tensor in present] == [tensor.shape for tensor in wanted]:
        starts.insert(0, wanted)
    if built.calls != free.calls:

        def miss(values: Sequence[Tensor]) -> Tensor:
            reached = built.at(values, free.starts)
            return torch.stack([(a - b).square().mean() for a, b in zip(reached, wanted, strict=True)]).sum()

        starts.insert(0, descend(miss, starts[0], _MISS))
    return starts
