"""Rectifiers in the place of activations that saturate: they pass a gradient on undiminished."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.findings.records import Cause
from unstuck.remedies.rules import fresh_adam, fresh_adam_lines
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import NotApplicableError, Situation, Treatment
from unstuck.training import Loss

_SATURATING = (nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid)
_ADAM_RATE = 1e-3

# A module, the name of one of its children, and that child.
Place = tuple[nn.Module, str, nn.Module]


def rectify(known: Situation) -> Sequence[Treatment]:
    """Put ReLU for sigmoid and tanh between layers, and begin anew as suits it; a change of the model itself."""
    if not _between(known.training.model):
        return []
    return [_treatment(known, adam=False), _treatment(known, adam=True)]


def _treatment(known: Situation, *, adam: bool) -> Treatment:
    def apply(run: Run) -> None:
        run.training = replace(run.training, loss=exchanged(run.training.loss, _between, nn.ReLU))
        run.look_at(run.objective.batches)
        run.move(_he(run, known.seed) - run.theta())
        run.forget()
        if adam:
            run.optimizer = fresh_adam(run.optimizer, _ADAM_RATE)

    names = sorted({type(child).__name__ for _, _, child in _between(known.training.model)})
    after = f", and Adam at rate {_ADAM_RATE:g}" if adam else ""
    return Treatment(
        "rectify",
        frozenset({Cause.VANISHING_GRADIENT, Cause.SATURATED_UNITS}),
        f"ReLU in the place of {' and '.join(names)}, and weights begun anew for it{after}",
        (
            f"nn.ReLU()  # in the place of nn.{names[0]}() between layers",
            "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')  # of each layer; biases at 0",
            *(fresh_adam_lines(known.training, _ADAM_RATE) if adam else ()),
        ),
        "Glorot et al., 2011; He et al., 2015",
        apply,
        in_place=False,
    )


def behind(model: nn.Module) -> list[Place]:
    """Activations behind the last layer, with their places, in the order of the model's definition."""
    return _parted(model, (*_SATURATING, nn.Softmax, nn.LogSoftmax, nn.ReLU, nn.Softplus))[1]


def _between(model: nn.Module) -> list[Place]:
    """Activations that saturate, but those behind the last layer: outputs may need them."""
    return _parted(model, _SATURATING)[0]


def _parted(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> tuple[list[Place], list[Place]]:
    """Those that a layer with parameters follows, and those that none does."""
    followed: list[Place] = []
    waiting: list[Place] = []
    for path, child in model.named_modules():
        if isinstance(child, kinds) and path:
            parent, _, name = path.rpartition(".")
            waiting.append((model.get_submodule(parent), name, child))
        elif any(True for _ in child.parameters(recurse=False)):
            followed += waiting
            waiting = []
    return followed, waiting


def exchanged(loss: Loss, places: Callable[[nn.Module], list[Place]], other: Callable[[], nn.Module]) -> Loss:
    """The same loss with other modules in these places; the session that it runs in puts the user's back."""

    def compute(model: nn.Module, batch: Any) -> Tensor:
        for parent, name, _ in places(model):
            setattr(parent, name, other())
        return loss(model, batch)

    return compute


def _he(run: Run, seed: int) -> Tensor:
    r"""Draw weights from $N(0, 2 / \mathrm{fan\_in})$; biases are zero, and what has one dimension else stays."""
    drawn = torch.Generator().manual_seed(seed)
    here = run.theta()
    fresh = here.clone()
    slots = run.objective.parameters.slots
    for slot, piece in zip(slots, run.objective.parameters.pieces(fresh), strict=True):
        if piece.ndim > 1:
            deviation = math.sqrt(2.0 / piece[0].numel())
            piece.copy_(torch.randn(piece.shape, generator=drawn).to(piece) * deviation)
        elif slot.name.endswith("bias"):
            piece.zero_()
    if torch.equal(fresh, here):
        msg = "there are no weights to begin anew"
        raise NotApplicableError(msg)
    return fresh
