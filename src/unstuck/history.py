"""What a run wrote down on its way: loss, gradient norm, learning rate, validation loss."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

from unstuck.errors import TrainingError

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class History:
    """The recorded past of a run, one entry a record; every field but the loss may be left out.

    Attributes:
        loss: Training loss at each record, of a batch or of a mean over some. NaN and Inf are kept: they tell.
        step: Number of the optimizer's step at each record, ascending; by default 0, 1, 2, ...
        gradient_norm: Length of the gradient there; None where it was not recorded.
        learning_rate: The rate of the first parameter group there.
        validation_loss: The loss on validation data there; None where it was not evaluated.

    Raises:
        TrainingError: The fields differ in length, steps do not ascend, or an entry is not a number.
    """

    loss: Numbers
    step: Numbers | None = None
    gradient_norm: Numbers | None = None
    learning_rate: Numbers | None = None
    validation_loss: Numbers | None = None

    def __post_init__(self) -> None:
        for name, values in self._recorded():
            if len(values) != len(self.loss):
                msg = f"`history`: `{name}` has {len(values)} entries and `loss` {len(self.loss)}: give one a record"
                raise TrainingError(msg)
            wrong = [value for value in values if not _is_number(value)]
            if wrong:
                msg = f"`history`: `{name}` must hold numbers (tensors by .item()), not {wrong[0]!r:.60}"
                raise TrainingError(msg)
        steps = self.steps
        if any(not after > before for before, after in pairwise(steps)):
            msg = "`history`: `step` must ascend from record to record"
            raise TrainingError(msg)

    @property
    def steps(self) -> tuple[float, ...]:
        """The step of each record."""
        if self.step is None:
            return tuple(map(float, range(len(self.loss))))
        return tuple(math.nan if step is None else float(step) for step in self.step)

    @classmethod
    def read(cls, path: str | Path) -> "History":
        """Read a CSV file with a header; columns are called as the fields, others are ignored, cells may be empty.

        Raises:
            TrainingError: There is no such file, no column `loss`, or a cell that is not a number.
        """
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            msg = f"`history`: cannot read {path}: {error}"
            raise TrainingError(msg) from error
        known = [field.name for field in fields(cls) if rows and field.name in rows[0]]
        if "loss" not in known:
            header = ", ".join(map(str, rows[0])) if rows else "nothing below its header"
            msg = f"`history`: {path} has no column `loss`: it has {header}"
            raise TrainingError(msg)
        return cls(
            **{name: [_number(row, name, line, path) for line, row in enumerate(rows, 2)] for name in known}
        )

    def _recorded(self) -> list[tuple[str, Numbers]]:
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, values) for name, values in pairs if values is not None]


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _number(row: Mapping[str, str | None], name: str, line: int, path: str | Path) -> float | None:
    text = (row[name] or "").strip()
    try:
        return float(text) if text else None
    except ValueError as error:
        msg = f"`history`: {path}, line {line}: `{name}` must be a number, not {text!r:.60}"
        raise TrainingError(msg) from error
