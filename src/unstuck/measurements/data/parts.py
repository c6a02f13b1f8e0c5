"""What the tensors of a batch are to the loss: labels, inputs, weights, places in a table."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.measurements.loss.outputs import criterion, free_end
from unstuck.measurements.loss.tape import Call, Node, Tape, Trace, tail, tensors


def labelled(traced: Trace) -> int:
    """Which tensor of a batch holds the labels: the one that the outputs are compared with.

    Raises:
        MeasurementError: The loss does not show it, the inputs hold them as well, or they are not all that is learnt.
    """
    end = tail(traced)
    call = criterion(free_end(end)[0])
    given = {id(tensor): place for place, tensor in enumerate(tensors(traced.content))}
    every = _roots(traced.tape, [traced.tape.calls[index] for index in end.calls], given)
    roots = every if len(every) == 1 or call is None else _roots(traced.tape, [call], given)
    if len(roots) != 1:
        # A criterion of one's own may use outputs twice; then any meeting of learnt and fixed tensors counts.
        nodes = traced.tape.nodes
        meetings = [c for c in traced.tape.calls if any(nodes[n].learnt and nodes[n].data for n in c.uses)]
        roots = _roots(traced.tape, meetings, given)
    if len(roots) != 1:
        msg = "the loss does not show which tensor of a batch holds the labels"
        raise MeasurementError(msg)
    (place,) = roots
    if len(given) == 1 or _is_input(traced, place, {*end.calls, *_after_the_model(traced.tape)}):
        msg = "the labels are made from the inputs, as in autoencoders and language models"
        raise MeasurementError(msg)
    if any(_weighs(traced, other, end.calls) for other in every - roots):
        msg = "another tensor says what each label counts for, as rewards do: what is to be learnt is in that as well"
        raise MeasurementError(msg)
    return place


def _weighs(traced: Trace, place: int, calls: Sequence[int]) -> bool:
    """Whether what outputs and labels have made meets other numbers of each example, that are no mask."""
    tensor = list(tensors(traced.content))[place]
    own_calls = {*calls, *_after_the_model(traced.tape)}
    several = tensor.is_floating_point() and len(tensor.unique()) > 2  # noqa: PLR2004 - what to leave out is no weight
    return several and not _is_input(traced, place, own_calls)


def looked_up(tape: Tape) -> bool:
    """Whether whole numbers of the batch are places in a table that is learnt, as of an embedding."""
    return any(
        any(tape.nodes[number].learnt and tape.nodes[number].call is None for number in call.uses)
        and any(_is_place(tape.nodes[number]) for number in call.uses)
        for call in tape.calls
    )


def _is_place(node: Node) -> bool:
    return node.data and not node.tensor.is_floating_point() and node.tensor.dtype != torch.bool


def _roots(tape: Tape, calls: Sequence[Call], given: dict[int, int]) -> set[int]:
    """Places in the batch of the tensors that the fixed arguments of some calls were made from."""
    roots: set[int] = set()
    seen: set[int] = set()
    ahead = [number for call in calls for number in call.uses if not tape.nodes[number].learnt]
    while ahead:
        node = tape.nodes[number := ahead.pop()]
        if number in seen:
            continue
        seen.add(number)
        if id(node.tensor) in given:
            roots.add(given[id(node.tensor)])
        elif node.call is not None:
            ahead.extend(tape.calls[node.call].uses)
    return roots


def _after_the_model(tape: Tape) -> range:
    """Calls after the last one that uses a parameter: whatever they compute, the model is done."""
    leaves = {number for number, node in enumerate(tape.nodes) if node.learnt and node.call is None}
    last = max((index for index, call in enumerate(tape.calls) if leaves & set(call.uses)), default=-1)
    return range(last + 1, len(tape.calls))


def _is_input(traced: Trace, place: int, own_calls: set[int]) -> bool:
    """Whether the labels also go into the model, or equal an input up to a shift and masked places."""
    tape, every = traced.tape, list(tensors(traced.content))
    target = every[place]
    own = next(n for n, node in enumerate(tape.nodes) if node.tensor is target)
    reached = {own}
    for index, call in enumerate(tape.calls):
        if index not in own_calls and reached & set(call.uses):
            made = [n for n, node in enumerate(tape.nodes) if node.call == index]
            if any(tape.nodes[n].learnt for n in made):
                return True
            reached.update(made)
    return any(_alike(target, other) for other in every if other is not target)


def _alike(target: Tensor, other: Tensor) -> bool:
    if target.shape != other.shape or target.dtype != other.dtype or target.ndim < 2:  # noqa: PLR2004
        return False
    kept = target >= 0 if not target.is_floating_point() else torch.ones_like(target, dtype=torch.bool)
    same = (target == other)[kept].float().mean() if bool(kept.any()) else torch.tensor(0.0)
    shifted = (target[:, :-1] == other[:, 1:]).float().mean()
    return max(float(same), float(shifted)) > 0.5  # noqa: PLR2004
