"""Inputs on one scale."""

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from unstuck import processes
from unstuck.errors import MeasurementError
from unstuck.findings.records import Cause
from unstuck.measurements.loss.tape import sources, tail, tensors, trace
from unstuck.objective.sampling import Batch, attributes
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import ANEW, NotApplicableError, Situation, Treatment
from unstuck.remedies.units import fresh_parameters

# Batches of images have this many dimensions: examples, channels, rows, columns.
_OF_IMAGES = 4

# Features that hardly vary are only centred.
_LEAST = 1e-6


def scale_inputs(known: Situation) -> Sequence[Treatment]:
    """Bring every feature (of images every channel) to mean 0 and standard deviation 1.

    Not where the loss is made of the inputs, as an autoencoder's or a physics-informed one: it would be another loss.
    Either the weights stay, and the rate grows as much as the first layer's curvature shrinks, or all begins anew:
    units that the raw inputs have driven into saturation do not come back by themselves.
    """
    return [_scaled(known, anew=False), _scaled(known, anew=True)]


def _scaled(known: Situation, *, anew: bool) -> Treatment:
    def apply(run: Run) -> None:
        before = run.objective.batches
        if _seen_by_loss(run):
            msg = "the loss itself is made of the inputs: of others it would not be the same loss"
            raise NotApplicableError(msg)
        # Of several processes the first one's data speak for all.
        mean, deviation = processes.shared(_moments(before))

        def scaled(batch: Batch) -> Batch:
            return replace(batch, content=_replaced(batch.content, mean, deviation))

        run.prepare = scaled
        run.look_at([scaled(batch) for batch in before])
        if anew:
            run.move(fresh_parameters(run, known.seed) - run.theta())
            run.forget()
        else:
            shrunk = max(_mean_square(run.objective.batches), _LEAST)
            run.scale_rate(processes.agreed(_mean_square(before) / shrunk))

    # Inputs that are next to nothing leave a network on a plateau as well.
    driven = {Cause.SATURATED_UNITS, Cause.DEAD_UNITS, Cause.PLATEAU, Cause.VANISHING_GRADIENT}
    causes = driven if anew else {Cause.ILL_CONDITIONED}
    return Treatment(
        "scale-inputs",
        frozenset(causes),
        "every input feature at mean 0 and deviation 1" + (", and all parameters begun anew" if anew else ""),
        ("inputs = (inputs - mean) / deviation  # of the training data", *((ANEW,) if anew else ())),
        "LeCun et al., 1998, section 4.3",
        apply,
        in_place=False,
    )


def _seen_by_loss(run: Run) -> bool:
    """Whether inputs get to the loss beside the model, as an autoencoder's, or outputs are differentiated by them.

    Where nothing else in a batch could say what is to be learnt, they do: a density's loss is that of its inputs.
    """
    traced = trace(run.training, run.objective, run.objective.batches[0])
    inputs = first_floating(traced.content)
    if inputs is None:
        return False
    if not any(traced.tape.used(other) for other in tensors(traced.content) if other is not inputs):
        return True
    made_of = sources(traced.tape, {id(inputs): 0})
    try:
        end = set(tail(traced).calls)
    except MeasurementError:  # parameters make the loss itself
        end = set[int]()
    nodes = traced.tape.nodes
    return any(
        made_of[use] and ((index in end and not nodes[use].learnt) or call.function is torch.autograd.grad)
        for index, call in enumerate(traced.tape.calls)
        for use in call.uses
    )


def first_floating(content: Any) -> Tensor | None:
    """The first floating tensor of a batch: its inputs, by the custom of putting them before the targets."""
    if isinstance(content, Tensor):
        return content if content.is_floating_point() else None
    held = content if isinstance(content, Mapping) else attributes(content) or {}
    items: Sequence[Any] = content if isinstance(content, list | tuple) else list(held.values())
    return first_floating(items[0]) if items else None


def _inputs(batches: Sequence[Batch]) -> list[Tensor]:
    found = [first_floating(batch.content) for batch in batches]
    tensors = [tensor.detach().double() for tensor in found if tensor is not None and tensor.ndim > 1]
    if len(tensors) < len(found):
        msg = "the batches do not begin with a floating tensor of features"
        raise NotApplicableError(msg)
    return tensors


def _mean_square(batches: Sequence[Batch]) -> float:
    """Of the inputs: the curvature of the first layer goes with it, and against it the rate that suits."""
    squares = [float(tensor.square().mean()) for tensor in _inputs(batches)]
    return sum(squares) / len(squares)


def _moments(batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature, the last dimension; of images of each channel, the second."""
    together = torch.cat(_inputs(batches))
    axis = 1 if together.ndim == _OF_IMAGES else together.ndim - 1
    others = [dimension for dimension in range(together.ndim) if dimension != axis]
    mean = together.mean(others, keepdim=True)
    deviation = together.std(others, keepdim=True, correction=0)
    return mean, torch.where(deviation > _LEAST * mean.abs().clamp(min=1.0), deviation, 1.0)


def _replaced(content: Any, mean: Tensor, deviation: Tensor) -> Any:
    """Give the same batch with its first floating tensor scaled."""
    if isinstance(content, Tensor):
        return ((content - mean) / deviation).to(content.dtype)
    if isinstance(content, MutableMapping):
        items = cast("MutableMapping[Any, Any]", copy.copy(content))
        key = next(iter(items))
        items[key] = _replaced(items[key], mean, deviation)
        return items
    if held := attributes(content):
        copied, name = copy.copy(content), next(iter(held))
        object.__setattr__(copied, name, _replaced(held[name], mean, deviation))
        return copied
    rest = [_replaced(content[0], mean, deviation), *content[1:]]
    return type(content)(*rest) if hasattr(content, "_fields") else type(content)(rest)
