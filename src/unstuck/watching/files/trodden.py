"""The path of a recorded run: its snapshots, and how their weights fit those of a model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unstuck.errors import RunError
from unstuck.watching.files.opening import find
from unstuck.watching.files.trail import folder_of

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Snapshot:
    """The weights after so many steps, still on the disk."""

    step: int
    path: Path

    def weights(self, wanted: Shapes) -> list[Tensor]:
        """Read the weights that a model wants, in its order.

        Raises:
            RunError: They are those of another model, or cannot be read.
        """
        try:
            with safe_open(self.path, framework="pt") as opened:
                file: Any = opened
                names: list[str] = json.loads((file.metadata() or {}).get("names", "[]"))
                shapes = {name: file.get_slice(name).get_shape() for name in names}
                return [file.get_tensor(name) for name in _fitting(shapes, wanted)]
        except (SafetensorError, OSError, ValueError) as error:
            msg = f"cannot read {self.path}: {error}"
            raise RunError(msg) from error


def snapshots(run: str | Path) -> tuple[Snapshot, ...]:
    """Give the snapshots of a run, or of the newest in a folder, by step.

    Raises:
        RunError: There is no such run, or its path was not kept.
    """
    store, _ = find(run)
    found = [Snapshot(int(file.stem), file) for file in folder_of(store).glob("[0-9]*.safetensors")]
    if not found:
        msg = (
            f"the path of the weights was not kept for {store}: record it with `unstuck run --path 50 SCRIPT` or "
            "`unstuck.watch(..., path=50)`"
        )
        raise RunError(msg)
    return tuple(sorted(found, key=lambda snapshot: snapshot.step))


def _fitting(there: Shapes, wanted: Shapes) -> list[str]:
    """Name what is there in the order of what is wanted: of the same name, or all with a prefix more or less."""
    if all(name in there and list(there[name]) == list(shape) for name, shape in wanted.items()):
        return [*wanted]
    pairs = list(zip(there.items(), wanted.items(), strict=False))
    same = len(there) == len(wanted) and all(
        list(shape) == list(other) and (name.endswith(f".{own}") or own.endswith(f".{name}"))
        for (name, shape), (own, other) in pairs
    )
    if not same:
        odd = next((name for name in wanted if name not in there), next(iter(wanted)))
        msg = f"the run's weights are not those of the model: `{odd}` of shape {list(wanted[odd])} is not among them"
        raise RunError(msg)
    return [*there]
