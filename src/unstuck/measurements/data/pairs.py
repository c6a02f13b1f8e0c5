"""Whether examples that are compared with each other belong together, where neither is a label."""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.errors import MeasurementError, UnstuckError
from unstuck.measurements.bill import Claim, unlimited
from unstuck.measurements.data.dependence import Dependence, dependence
from unstuck.measurements.data.examples import Examples, columns, discrete, distinct, features, names
from unstuck.measurements.data.fresh import fresh_copy
from unstuck.measurements.data.labels import COSTS, FEWEST, MOST, PASSES, Tests, halves, learn
from unstuck.measurements.judging import Judge
from unstuck.measurements.loss.tape import Tail, Tape, Trace, sources, tensors, trace
from unstuck.measurements.records.labels import Labels
from unstuck.objective import Batch, draw
from unstuck.objective.generators import generators_kept
from unstuck.training import Training

# A loss that changes by less, relatively, does not heed which row is compared with which.
_HEEDS = 1e-4


@dataclass(frozen=True)
class _Meeting:
    """Two nodes of a recorded loss, each made by the model of one tensor of the batch alone.

    Attributes:
        nodes: Their numbers.
        places: Of the tensors that they were made of.
    """

    nodes: tuple[int, int]
    places: tuple[int, int]


def measure_pairs(training: Training, judge: Judge, *, seed: int = 0, claim: Claim = unlimited) -> Labels:
    """Test whether of two tensors that the loss compares, example by example, one tells anything of the other.

    As with the two sides of a contrastive loss, or with an anchor and what is said to be like it. First the tensors
    themselves are asked, which costs no gradient; then what the model makes of either, on validation data, or begun
    anew and trained on half of the examples. Of several pairs, as in triplets, one that belongs together is enough.

    Raises:
        MeasurementError: The loss compares no two tensors of the batch so, or there are too few examples.
    """
    objective = judge.objective
    with generators_kept():
        batches = objective.batches
        meetings = _meetings(trace(training, objective, batches[0]), batches[0].examples)
        contents = [batch.content for batch in batches]
        given = [_gathered(contents, meeting.places) for meeting in meetings]
        tests = Tests([], [])
        for number, examples in enumerate(given):
            inputs = features(examples.inputs)
            tests.add("inputs", dependence(inputs, columns(examples.targets), seed=seed + number))
        if not tests.found and any(names(examples.inputs) for examples in given):
            msg = "the inputs only say where in a table to look, and one place tells nothing of another"
            raise MeasurementError(msg)
        passes = 0
        if not tests.found:
            claim(COSTS)
            passes = _Asked(training, judge, meetings, seed).ask(tests, given)
    strongest = min(tests.results, key=lambda result: result.p_value)
    sharpest = min(tests.results, key=lambda result: result.correlation.stderr)
    return Labels(
        examples=len(given[0].targets),
        p_value=min(1.0, len(tests.results) * strongest.p_value),
        dependence=(strongest if tests.found else sharpest).correlation,
        detectable=sharpest.detectable,
        tests=tuple(dict.fromkeys(tests.names)),
        loss=judge.loss().value,
        passes=passes,
        discrete=any(discrete(examples.inputs) for examples in given),
        pairs=True,
    )


class _Asked:
    """What the model itself, and a copy of it that learns afresh, make of either side."""

    def __init__(self, training: Training, judge: Judge, meetings: Sequence[_Meeting], seed: int) -> None:
        self._training, self._judge, self._seed = training, judge, seed
        self._places = [meeting.places for meeting in meetings]

    def ask(self, tests: Tests, given: Sequence[Examples]) -> int:
        """Add what is found to the tests; give the passes that a copy was trained for."""
        training, judge = self._training, self._judge
        with contextlib.suppress(UnstuckError, RuntimeError):
            if training.validation is not None:
                drawn = draw(training.validation, seed=self._seed, enough=lambda _, seen: seen >= MOST)
                self._add("validation", tests, training, drawn.batches, [each.marks for each in given])
        if tests.found:
            return 0
        first, second = halves(judge.objective.batches)
        with contextlib.suppress(UnstuckError, RuntimeError):
            copy = fresh_copy(training.model, seed=self._seed)

            def loss(_model: nn.Module, content: Any) -> Tensor:
                return training.loss(copy, content)

            own = dataclasses.replace(training, loss=loss)
            learn(own, copy, judge, first, seed=self._seed)
            marks = [_gathered([b.content for b in first], places).marks for places in self._places]
            self._add("trained copy", tests, own, second, marks)
            return PASSES
        return 0

    def _add(
        self, name: str, tests: Tests, own: Training, batches: Sequence[Batch], seen: Sequence[Tensor]
    ) -> None:
        sides: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for batch in batches:
            traced = trace(own, self._judge.objective, batch)
            for meeting in _meetings(traced, batch.examples):
                one, other = (_flat(traced.tape.nodes[number].tensor) for number in meeting.nodes)
                sides.setdefault(meeting.places, []).append((one, other))
        contents = [batch.content for batch in batches]
        for number, places in enumerate(self._places):
            if len(sides.get(places, ())) == len(batches):
                tests.add(name, self._foretold(contents, places, sides[places], seen[number]))

    def _foretold(
        self,
        contents: Sequence[Any],
        places: tuple[int, int],
        sides: Sequence[tuple[Tensor, Tensor]],
        seen: Tensor,
    ) -> Dependence | None:
        one, other = (torch.cat(side) for side in zip(*sides, strict=True))
        examples = _gathered(contents, places, [torch.cat([one, other], 1)]).without(seen)
        if len(examples.targets) < FEWEST or examples.extra is None:
            return None
        side, target = examples.extra.split([one.shape[1], other.shape[1]], 1)
        return dependence([side], columns(target), seed=self._seed)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten(1).float().cpu()


def _gathered(
    contents: Sequence[Any], places: tuple[int, int], extra: Sequence[Tensor] | None = None
) -> Examples:
    every = [list(tensors(content)) for content in contents]
    inputs, targets = ([each[place].detach() for each in every] for place in places)
    if extra is None and sum(map(len, targets)) < FEWEST:
        msg = f"there are only {sum(map(len, targets))} pairs of examples, too few to test anything"
        raise MeasurementError(msg)
    return distinct([[tensor] for tensor in inputs], targets, MOST, extra)


def _meetings(traced: Trace, count: int) -> list[_Meeting]:
    """Find where what was made of two tensors meets for the first time, once the model is done.

    What a model decodes with parameters is a sum, an attention or the like, where sides need not belong together row
    by row; nor need single numbers, as two scores whose difference counts. Both sides have a row for each example,
    and it matters to the loss which row of one is compared with which of the other.

    Raises:
        MeasurementError: There is no such place.
    """
    tape = traced.tape
    made_of = sources(tape, {id(tensor): place for place, tensor in enumerate(tensors(traced.content))})
    found: dict[tuple[int, int], _Meeting] = {}
    for call in tape.calls[_done(tape) :]:
        sides = {side for number in call.uses if (side := _side(tape, number, count)) is not None}
        for one, other in ((a, b) for a in sides for b in sides):
            places = made_of[one], made_of[other]
            if len(places[0]) == len(places[1]) == 1 and min(places[0]) < min(places[1]):
                pair = (min(places[0]), min(places[1]))
                if pair not in found and _heeds(traced, one, other):
                    found[pair] = _Meeting((one, other), pair)
    if not found:
        msg = "the loss does not compare what the model makes of two tensors of a batch, example by example"
        raise MeasurementError(msg)
    return list(found.values())


def _done(tape: Tape) -> int:
    """The call after the last one that uses a parameter of more than one number, such as a temperature is."""
    own = {
        number
        for number, node in enumerate(tape.nodes)
        if node.learnt and node.call is None and not node.data and node.tensor.numel() > 1
    }
    return 1 + max((index for index, call in enumerate(tape.calls) if own & set(call.uses)), default=-1)


def _side(tape: Tape, number: int, count: int) -> int | None:
    """The node itself, or what it was made of by transposing and the like, that has a row for each example."""
    while True:
        node = tape.nodes[number]
        if not (node.learnt and node.data):
            return None
        if node.tensor.ndim > 1 and len(node.tensor) == count < node.tensor.numel():
            return number
        before = set(tape.calls[node.call].uses) if node.call is not None else set[int]()
        if len(before) != 1:
            return None
        (number,) = before


def _heeds(traced: Trace, one: int, other: int) -> bool:
    """Whether the loss changes when the rows of one side are handed on by one place."""
    tape = traced.tape
    end = tape.number(traced.loss)
    since = Tail(tape, end, (), range(len(tape.calls))).since((one, other))
    try:
        first, second = since.present()
        before, after = (
            float(since([first, second]).detach()),
            float(since([first, second.roll(1, 0)]).detach()),
        )
    except (RuntimeError, KeyError):
        return False
    return abs(after - before) > _HEEDS * abs(before)
