"""Which part of its inputs a model sees."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unstuck.measurements.judging import Judge
from unstuck.measurements.loss.tape import Tail, sources, tail, trace
from unstuck.measurements.records.sight import Sight
from unstuck.objective.generators import generators_kept
from unstuck.objective.sampling import mapped, tensors
from unstuck.training import Training

# With fewer examples a unit may be off on all of them by chance.
_FEWEST = 16


def measure_sight(training: Training, judge: Judge, *, seed: int) -> Sight | None:
    """Take the derivative of all outputs of one batch, weighted at random, by every number of the inputs.

    Where it is zero to the last bit, for a column of the inputs on all examples, or for an example in all columns, no
    output depends on that: a slice, an index or a mask has cut it off. Costs a gradient of one batch and a half.

    Returns:
        None where no output depends on any input by a derivative, as behind whole numbers or dead layers, where the
        loss itself knows the inputs, as those of autoencoders, and where there are too few examples.

    Raises:
        MeasurementError: The loss does not show where the model ends.
    """
    objective = judge.objective
    batch = objective.batches[judge.halves.finds[0]]
    with generators_kept():
        traced = trace(training, objective, batch)
        end = tail(traced)
        seen = _inputs(end, list(tensors(traced.content)))
        if not seen or batch.examples < _FEWEST:
            return None
        again = replace(batch, content=_to_be_derived(batch.content, seen))
        derived = trace(training, objective, again)
        nodes = [derived.tape.nodes[number].tensor for number in end.starts]
        given = [tensor for place, tensor in enumerate(tensors(derived.content)) if place in seen]
        drawn = torch.Generator().manual_seed(seed)
        weighted = [
            (node * torch.randn(node.shape, generator=drawn).to(node)).sum()
            for node in nodes
            if node.requires_grad
        ]
        slopes = torch.autograd.grad(torch.stack(weighted).sum(), given, allow_unused=True)
    pairs: list[tuple[Tensor, Tensor | None]] = list(zip(given, slopes, strict=True))
    whole = [
        (x.detach().flatten(1), slope.flatten(1))
        for x, slope in pairs
        if slope is not None and len(x) == batch.examples
    ]
    if not whole or not any(bool(slope.any()) for _, slope in whole):
        return None
    differing = [(x != x[:1]).any(0) for x, _ in whole]
    unseen = [~slope.bool().any(0) for _, slope in whole]
    rows = torch.stack([slope.bool().any(1) for _, slope in whole]).any(0)
    return Sight(
        numbers=sum(int(each.sum()) for each in differing),
        unseen=sum(int((each & cut).sum()) for each, cut in zip(differing, unseen, strict=True)),
        examples=batch.examples,
        unheeded=int((~rows).sum()),
    )


def _inputs(end: Tail, every: Sequence[Tensor]) -> set[int]:
    """Places of tensors of real numbers that the loss knows by way of outputs alone."""
    tape = end.tape
    made_of = sources(tape, {id(tensor): place for place, tensor in enumerate(every)})
    into = frozenset[int]().union(*(made_of[number] for number in end.starts))
    beside = {use for index in end.calls for use in tape.calls[index].uses if not tape.nodes[use].learnt}
    direct = frozenset[int]().union(*(made_of[number] for number in beside))
    return {n for n in into - direct if every[n].is_floating_point() and every[n].ndim > 1}


def _to_be_derived(content: Any, places: set[int]) -> Any:
    number = iter(range(len(list(tensors(content)))))

    def leaf(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        return item.detach().clone().requires_grad_() if next(number) in places else item

    return mapped(content, leaf)
