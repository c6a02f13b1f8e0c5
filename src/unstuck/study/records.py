"""What a study is, what a run of it gives, and what can come out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import plotly.graph_objects as go

from unstuck.errors import MeasurementError, UnstuckError

Value = float | int | str | bool | None
Row = Mapping[str, Value]
Settings = Mapping[str, Value]
Run = Callable[[Settings, int], Sequence[Row]]


class StudyError(UnstuckError):
    """A study cannot be run, or its results cannot be kept."""


class Scale(StrEnum):
    """How much is run: minutes on two cores, or as long as it takes for a clear answer."""

    SMALL = "small"
    FULL = "full"


class Holds(StrEnum):
    """What a test says of a claim."""

    YES = "holds"
    NO = "does not hold"
    UNSURE = "cannot be seen at this scale"


@dataclass(frozen=True)
class Outcome:
    """A part of a claim, tested.

    Attributes:
        part: What is claimed, in a few words.
        holds: What the test says.
        statistic: Name of the number that decides.
        value: That number.
        low: Lower end of its 95 % interval.
        high: Upper end.
        bound: What it is compared with; fixed before anything was measured.
        sentence: What was found, for somebody who has read nothing else.
    """

    part: str
    holds: Holds
    statistic: str
    value: float
    low: float
    high: float
    bound: float
    sentence: str


@dataclass(frozen=True)
class Table:
    """Rows of plain numbers, in the order of the runs; each has the settings and the seed of its run."""

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def where(self, **wanted: Value) -> "Table":
        """Keep the rows that have these values."""
        return Table(tuple(row for row in self.rows if all(row.get(k) == v for k, v in wanted.items())))

    def numbers(self, name: str) -> list[float]:
        """Give a column of numbers.

        Raises:
            MeasurementError: A row has no number there.
        """
        return [number(row, name) for row in self.rows]

    def groups(self, *names: str) -> dict[tuple[Value, ...], "Table"]:
        """Give the rows that share the values of these columns, in order of appearance."""
        found: dict[tuple[Value, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(tuple(row.get(name) for name in names), []).append(row)
        return {key: Table(tuple(rows)) for key, rows in found.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))


def number(row: Row, name: str) -> float:
    """Read a number.

    Raises:
        MeasurementError: There is none.
    """
    value = row.get(name)
    if isinstance(value, int | float):
        return float(value)
    msg = f"a run gave no number for `{name}`: {dict(row)!r:.200}"
    raise MeasurementError(msg)


@dataclass(frozen=True)
class Drawing:
    """A figure with its words."""

    name: str
    figure: go.Figure
    caption: str


@dataclass(frozen=True)
class Sheet:
    """Numbers beside each other, for whom a figure does not say enough.

    Attributes:
        title: What it is of.
        columns: Their names; the first one names the rows.
        rows: Cells as they are read.
        caption: Its words.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


def no_sheets(table: Table) -> Sequence[Sheet]:
    """Give none: the figures say enough."""
    del table
    return ()


@dataclass(frozen=True)
class Study:
    """A claim of the lecture, and an experiment that can come out against it.

    Attributes:
        name: As in `unstuck study NAME`.
        title: A line for the list.
        claim: What the lecture says, in plain words.
        rows: Which of its rows.
        source: Where the claim, or the method of its test, was published.
        experiment: What is done, in one paragraph, for somebody who has read no paper.
        limits: What it does not show.
        settings: Those of the runs, by scale.
        seeds: How many of each, by scale.
        run: One run: a pure function of settings and seed to rows of plain numbers.
        test: The test, fixed beforehand: the table to an outcome for each part of the claim.
        draw: The figures, from the table alone.
        data: What data it is run on.
        tabulate: Its tables, from that of the runs alone.
    """

    name: str
    title: str
    claim: str
    rows: tuple[str, ...]
    source: str
    experiment: str
    limits: str
    settings: Callable[[Scale], Sequence[Settings]]
    seeds: Mapping[Scale, int]
    run: Run
    test: Callable[[Table], Sequence[Outcome]]
    draw: Callable[[Table], Sequence[Drawing]]
    data: str
    tabulate: Callable[[Table], Sequence[Sheet]] = no_sheets


@dataclass(frozen=True)
class Result:
    """A study that was run.

    Attributes:
        study: Which.
        scale: How much was run.
        seeds: How many of each setting.
        table: All rows.
        outcomes: One for each part of the claim.
        seconds: What the runs took, added up, whenever they were made.
        runs: How many.
        kept: Of these, found finished.
        version: Of the code that made them.
    """

    study: Study
    scale: Scale
    seeds: int
    table: Table
    outcomes: tuple[Outcome, ...]
    seconds: float
    runs: int
    kept: int
    version: str

    @property
    def holds(self) -> Holds:
        """Of the whole claim: it holds where every part does, and not where any part does not."""
        found = {outcome.holds for outcome in self.outcomes}
        return next((holds for holds in (Holds.NO, Holds.UNSURE) if holds in found), Holds.YES)


def grid(**values: Sequence[Value]) -> list[Settings]:
    """Give every combination of the values."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
