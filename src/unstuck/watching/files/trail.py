"""Weights on the way: a few whole snapshots, evenly spaced however long the run, in files beside the store."""

import json
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from unstuck.objective.sampling import reason
from unstuck.space import is_distributed
from unstuck.watching.defaults import FEWEST_PLACES, MOST_BYTES
from unstuck.watching.models import model_of, names_of, parameters_of, unwrapped

# Share of the time that copying weights may take; where that is too little, snapshots are farther apart.
_SHARE = 0.05

# Bytes of copies that wait to be written; more would take memory from the training where the disk is slow.
_MOST_WAITING = 1 << 26

_compiling = torch.compiler.is_dynamo_compiling


def folder_of(store: Path) -> Path:
    """Where the snapshots of a run are."""
    return store.with_suffix(".path")


def file_of(folder: Path, step: int) -> Path:
    """The file of the weights after so many steps."""
    return folder / f"{step:012d}.safetensors"


class Trail:
    """Keeps the weights that the first optimizer to step moves, those of its whole model.

    The first snapshot is from before its first step. Whenever there are more than `most`, every second one goes and
    they are taken half as often (a reservoir of even density); the last weights come on top at the end.

    Args:
        most: So many, or fewer where these would take more than `MOST_BYTES`.
        store: The run's file.
        say: Is told, in one line, why the path is not kept.
        model: Whose weights, if the caller knows.
    """

    def __init__(
        self, most: int, store: Path, say: Callable[[str], None], model: nn.Module | None = None
    ) -> None:
        self._most, self._folder, self._say = most, folder_of(store), say
        self._model = None if model is None else weakref.ref(model)
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._weights: list[tuple[str, weakref.ref[Tensor]]] = []
        self._kept: list[int] = []
        self._stride, self._step, self._size = 1, 0, 0
        self._began, self._cost = time.perf_counter(), 0.0
        # What the thread that writes is to do: a step with its weights, or without them to be removed.
        self._orders: deque[tuple[int, dict[str, Tensor] | None]] = deque()
        self._waiting = 0
        self._ended = False
        self._detach: Callable[[], None] = _nothing

    def attach(self, optimizers: Sequence[Optimizer] | None) -> None:
        """Hear of the steps of these optimizers, or of all."""
        if optimizers is None:
            handles = [
                register_optimizer_step_pre_hook(self._before_step),
                register_optimizer_step_post_hook(self._after_step),
            ]
        else:
            handles = [
                handle
                for optimizer in optimizers
                for handle in (
                    optimizer.register_step_pre_hook(self._before_step),
                    optimizer.register_step_post_hook(self._after_step),
                )
            ]

        def detach() -> None:
            for handle in handles:
                handle.remove()

        self._detach = detach

    def write(self) -> None:
        """Write what waits; the thread that writes calls it."""
        try:
            while self._orders and not self._ended:
                step, weights = self._orders.popleft()
                if weights is None:
                    file_of(self._folder, step).unlink(missing_ok=True)
                else:
                    self._waiting -= self._size
                    self._save(step, weights)
        except Exception as error:  # a full disk, most likely
            self._give_up(reason(error))

    def close(self) -> None:
        """Keep the last weights as well, and hear no more."""
        self._detach()
        if not self._ended and self._kept and self._kept[-1] != self._step:
            try:
                self._take(self._step)
            except Exception as error:
                self._give_up(reason(error))
        self.write()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        if self._optimizer is not None or _compiling():
            return
        try:
            self._begin(optimizer)
        except Exception as error:  # the training must not hear of it
            self._give_up(reason(error))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        if self._ended or _compiling() or self._optimizer is None or self._optimizer() is not optimizer:
            return
        self._step = step = self._step + 1
        if step < self._kept[-1] + self._stride or self._waiting > _MOST_WAITING:
            return
        now = time.perf_counter()
        if self._cost > _SHARE * (now - self._began):
            return
        try:
            self._take(step)
            self._thin()
        except Exception as error:
            self._give_up(reason(error))
        self._cost += time.perf_counter() - now

    def _begin(self, optimizer: Optimizer) -> None:
        self._optimizer = weakref.ref(optimizer)
        own = parameters_of(optimizer)
        found = model_of(own) if self._model is None else self._model()
        model = None if found is None else unwrapped(found)
        tensors = own if model is None else [one for one in model.parameters() if one.requires_grad]
        self._weights = [
            (name, weakref.ref(one)) for name, one in zip(names_of(model, tensors), tensors, strict=True)
        ]
        if any(is_distributed(one) for one in tensors):
            self._give_up("they are divided over several processes")
            return
        self._size = sum(one.numel() * min(one.element_size(), 4) for one in tensors)
        # One more comes at the end.
        self._most = min(self._most, int(MOST_BYTES / max(self._size, 1)) - 1)
        if self._most < FEWEST_PLACES:
            self._give_up(
                f"{FEWEST_PLACES + 1} snapshots of {self._size:,} bytes are more than {MOST_BYTES:,}"
            )
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take(0)

    def _take(self, step: int) -> None:
        with torch.no_grad():
            weights = {name: _copied(reference()) for name, reference in self._weights}
        self._waiting += self._size
        self._kept.append(step)
        self._orders.append((step, weights))

    def _thin(self) -> None:
        if len(self._kept) > self._most:
            self._orders.extend((step, None) for step in self._kept[1::2])
            self._kept = self._kept[::2]
            self._stride *= 2

    def _save(self, step: int, weights: dict[str, Tensor]) -> None:
        """Through another file, so that no reader ever sees a part of one."""
        final = file_of(self._folder, step)
        draft = final.with_suffix(f".{os.getpid()}.part")
        try:
            save_file(weights, draft, {"step": str(step), "names": json.dumps([*weights])})
            draft.replace(final)
        finally:
            draft.unlink(missing_ok=True)

    def _give_up(self, why: str) -> None:
        self._ended = True
        self._orders.clear()
        self._say(f"the path of the weights is not kept any further: {why}; the training goes on")


def _copied(weight: Tensor | None) -> Tensor:
    if weight is None:
        msg = "the model is gone"
        raise RuntimeError(msg)
    dtype = torch.float32 if weight.dtype == torch.float64 else weight.dtype
    return weight.detach().to("cpu", dtype, copy=True).contiguous()


def _nothing() -> None:
    """Have nothing to undo."""
