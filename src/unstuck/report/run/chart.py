"""Loss and gradient norm over the same steps, drawn in a terminal as wide as it is."""

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions
from rich.text import Text

from unstuck.report.numbers import digits, seconds, significant
from unstuck.report.plainly import in_ascii
from unstuck.report.run.drawing import Points, Range, averaged, column_of, drawn, spanned
from unstuck.report.run.standing import marks, stalled
from unstuck.watching.files.recorded import Course, Event

# How what was found is coloured.
KINDS = {"stall": "red", "finding": "yellow", "moving": "green"}

# Lines of the two drawings, and columns left of them.
_LOSS, _GRADIENT, _GUTTER = 8, 5, 10

# A drawing wider than this is no easier to read, a narrower one than that shows nothing.
_WIDEST, _NARROWEST = 120, 20


class Chart:
    """The curves of one optimizer, and below the loss where it stood still and what was found, by number."""

    def __init__(self, course: Course, told: Sequence[Event], *, ascii_only: bool) -> None:
        self._course, self._told, self._ascii = course, told, ascii_only
        # At the first step neither curve has anything to the left of it.
        self._ends = (float(course.curve[0].first), float(max(course.steps, 2)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        """Draw."""
        del console
        width = max(min(options.max_width, _WIDEST) - _GUTTER - 3, _NARROWEST)
        course = self._course
        losses = [(float(part.last), part.mean) for part in course.curve]
        gradients = [(sample.step, sample.gradient_norm) for sample in course.samples]
        yield from self._curve("loss", losses, "blue", width, _LOSS)
        yield from self._marks(width)
        yield from self._curve("\u2016g\u2016", gradients, "magenta", width, _GRADIENT)
        yield self._axis(width)

    def _curve(self, name: str, points: Points, style: str, width: int, height: int) -> Iterable[Text]:
        points = averaged(points, self._ends, width)
        range_ = spanned(points)
        if range_ is None:
            yield self._row("", Text(f" {self._plain(name)} is not known", style="dim"))
            return
        title = f"{self._plain(name)}, log scale" if range_.logarithmic else self._plain(name)
        yield Text(f"{'':{_GUTTER}} {title}", style=style)
        labels = _labels(range_, height)
        lines = drawn(points, self._ends, range_, width, height, ascii_only=self._ascii)
        for label, line in zip(labels, lines, strict=True):
            yield self._row(label, Text(line, style=style))

    def _marks(self, width: int) -> Iterable[Text]:
        """A line where the loss stands still, broken by the numbers of what was found."""
        if not self._told:
            return
        cells = [(" ", "")] * width
        for start, end in stalled(self._told, self._course.steps):
            low, high = (column_of(float(step), self._ends, width) for step in (start, end))
            cells[low : high + 1] = [("=" if self._ascii else "\u2501", "red")] * (high + 1 - low)
        free = 0
        for mark in marks(self._told, *map(round, self._ends)):
            label = self._plain(mark.label)
            start = min(
                max(column_of(float(mark.step), self._ends, width) - len(label) // 2, free),
                width - len(label),
            )
            if start < free:
                continue
            style = f"bold {KINDS.get(mark.kind, '')}"
            cells[start : start + len(label)] = [(letter, style) for letter in label]
            free = start + len(label) + 1
        yield self._row("", Text.assemble(*cells))

    def _axis(self, width: int) -> Text:
        first, last = (round(end) for end in self._ends)
        left, right = f"step {first:,}", f"{last:,} ({seconds(self._course.seconds)})"
        middle = f"{(first + last) // 2:,}"
        line = left.ljust(width)
        start = width // 2 - len(middle) // 2
        if start > len(left) + 1 and start + len(middle) < width - len(right) - 1:
            line = line[:start] + middle + line[start + len(middle) :]
        line = line[: max(width - len(right), len(left) + 1)] + right
        rule = ("+" if self._ascii else "\u2514") + ("-" if self._ascii else "\u2500") * width
        return Text(f"{'':{_GUTTER}} {rule}\n{'':{_GUTTER}}  {line}", style="dim")

    def _row(self, label: str, drawing: Text) -> Text:
        bar = "|" if self._ascii else "\u2502"
        return Text.assemble((f"{label:>{_GUTTER}} {bar}", "dim"), drawing)

    def _plain(self, text: str) -> str:
        return in_ascii(text) if self._ascii else text


def _labels(range_: Range, height: int) -> list[str]:
    """The values at the top, the middle and the bottom."""
    labels = [""] * height
    middle = height // 2
    share = 1.0 - (middle + 0.5) / height
    between = (
        range_.low * (range_.high / range_.low) ** share
        if range_.logarithmic
        else range_.low + share * (range_.high - range_.low)
    )
    many = digits(range_.low, range_.high)
    labels[0], labels[middle], labels[-1] = (
        significant(value, many) for value in (range_.high, between, range_.low)
    )
    return labels
