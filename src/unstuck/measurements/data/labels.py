"""Whether the labels depend on the inputs: looked for with growing effort, until something predicts them."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.errors import MeasurementError, UnstuckError
from unstuck.estimate import Estimate
from unstuck.measurements.bill import Claim, unlimited
from unstuck.measurements.data.dependence import Dependence, dependence, directions
from unstuck.measurements.data.examples import Examples, columns, discrete, distinct, features, names, scatter
from unstuck.measurements.data.fresh import fresh_copy, part, train
from unstuck.measurements.data.parts import labelled, looked_up
from unstuck.measurements.judging import Judge
from unstuck.measurements.loss.floors import least, value
from unstuck.measurements.loss.outputs import free_end
from unstuck.measurements.loss.tape import Trace, tail, tensors, trace
from unstuck.measurements.records.labels import ALIKE, Labels
from unstuck.objective import Batch, draw
from unstuck.objective.generators import generators_kept
from unstuck.objective.ledger import GRADIENT
from unstuck.objective.sampling import moved
from unstuck.training import Training

# Matrices of this many rows are inverted in a tenth of a second; correlations of 0.1 show in them.
MOST = 800

# Below this, permutations differ too little to tell anything.
FEWEST = 30

# A test with a smaller p-value has found something; further ones are not needed. Of up to five tests of labels that
# are independent, one comes as far by chance once in two hundred trainings; at one in a hundred it was one in twenty.
FOUND = 0.001

# Between that and this a test has found too little to settle anything, and too much to be passed over.
DOUBTFUL = 0.05

# With so many times as many examples as a test has taken there are half as many others for another one.
MANY = 1.5

# Passes over half of the sample, and gradients over the sample that these and what else is evaluated cost.
PASSES, COSTS = 12, 8.0


@dataclass
class Tests:
    """What was tested so far; `found` once one of them predicts the labels."""

    names: list[str]
    results: list[Dependence]

    @property
    def found(self) -> bool:
        """Whether one of them settles it."""
        return any(result.p_value < FOUND for result in self.results)

    def add(self, name: str, result: Dependence | None) -> None:
        """Take a test's result down, if there is one."""
        if result is not None:
            self.names.append(name)
            self.results.append(result)


def measure_labels(training: Training, judge: Judge, *, seed: int = 0, claim: Claim = unlimited) -> Labels:
    """Test whether anything predicts the labels, first from the inputs alone, which costs no gradient.

    Only if that finds nothing, the model itself is asked: what it makes of validation data, and what copies of
    it make of the inputs, initialised anew (random features) and trained on half of the examples. That costs
    about eight gradients of the sample, if `claim` allows them.

    Raises:
        MeasurementError: Inputs and labels cannot be told apart, or there are too few examples.
    """
    objective = judge.objective
    with generators_kept():
        traced = trace(training, objective, objective.batches[0])
        place = labelled(traced)
        alike = _inputs_alike([batch.content for batch in objective.batches], place)
        if alike >= FEWEST:
            return Labels(
                examples=alike,
                p_value=1.0,
                dependence=Estimate(0.0, 0.0),
                detectable=0.0,
                tests=(ALIKE,),
                loss=judge.loss().value,
                constant=_constant(traced),
            )
        examples = _gather([batch.content for batch in objective.batches], place)
        tests = Tests([], [])
        tests.add("inputs", _from_inputs([b.content for b in objective.batches], place, examples, seed))
        passes = 0
        spread = None if tests.found else scatter(examples.targets)
        if spread is not None:
            # Inputs may say how far labels scatter, and nothing of where: a likelihood of densities learns that.
            tests.add("scatter", dependence(features(examples.inputs), spread, seed=seed))
        if not tests.found and names(examples.inputs) and looked_up(traced.tape):
            msg = "the inputs only say where in a table to look, and one place tells nothing of another"
            raise MeasurementError(msg)
        if not tests.found:
            claim(COSTS)
            passes = _ask_the_model(training, judge, place, examples, tests, seed)
        constant = None if tests.found else _constant(traced)
    strongest = min(tests.results, key=lambda result: result.p_value)
    sharpest = min(tests.results, key=lambda result: result.correlation.stderr)
    return Labels(
        examples=len(examples.targets),
        p_value=min(1.0, len(tests.results) * strongest.p_value),
        dependence=(strongest if tests.found else sharpest).correlation,
        detectable=sharpest.detectable,
        tests=tuple(tests.names),
        loss=judge.loss().value,
        constant=constant,
        passes=passes,
        discrete=discrete(examples.inputs),
        directions=min(directions(each) for each in features(examples.inputs)),
    )


def _gather(contents: Sequence[Any], place: int, extra: Sequence[Tensor] | None = None) -> Examples:
    inputs: list[list[Tensor]] = []
    targets: list[Tensor] = []
    for content in contents:
        every = [tensor.detach() for tensor in tensors(content)]
        target = every[place]
        others = [t for n, t in enumerate(every) if n != place and t.ndim and len(t) == len(target)]
        if not target.ndim or not others:
            msg = "the labels are not one for each example of the inputs"
            raise MeasurementError(msg)
        inputs.append(others)
        targets.append(target)
        if sum(map(len, targets)) >= 2 * MOST:
            break
    examples = distinct(inputs, targets, MOST, extra)
    if extra is None and len(examples.targets) < FEWEST:
        msg = (
            f"there are only {len(examples.targets)} different examples with labels, too few to test anything"
        )
        raise MeasurementError(msg)
    if bool((examples.targets == examples.targets[:1]).all()):
        msg = "all labels are the same"
        raise MeasurementError(msg)
    return examples


def _inputs_alike(contents: Sequence[Any], place: int) -> int:
    """How many examples there are, if all have the same inputs and not all the same label; else 0."""
    first: list[Tensor] = []
    count, labels = 0, list[Tensor]()
    for content in contents:
        every = [tensor.detach() for tensor in tensors(content)]
        target = every[place]
        others = [
            t for n, t in enumerate(every) if n != place and t.ndim and target.ndim and len(t) == len(target)
        ]
        first = first or [tensor[:1] for tensor in others]
        if not first or not all(
            a.shape[1:] == b.shape[1:] and bool((a == b).all()) for a, b in zip(others, first, strict=False)
        ):
            return 0
        count += len(target)
        labels += [target[:1], target]
    return count if any(bool((target != labels[0]).any()) for target in labels) else 0


def _from_inputs(contents: Sequence[Any], place: int, examples: Examples, seed: int) -> Dependence:
    """Test the inputs alone."""

    def again() -> Dependence | None:
        others = _gather(contents[::-1], place).without(examples.marks)
        if 2 * len(others.targets) < len(examples.targets):
            return None
        return dependence(features(others.inputs), columns(others.targets), seed=seed + 1)

    return _settled(dependence(features(examples.inputs), columns(examples.targets), seed=seed), again)


def _settled(first: Dependence, again: Callable[[], Dependence | None]) -> Dependence:
    """Where a test leaves a doubt, another one decides, on examples of which the first one knows nothing."""
    return (again() if FOUND < first.p_value < DOUBTFUL else None) or first


def _ask_the_model(
    training: Training, judge: Judge, place: int, examples: Examples, tests: Tests, seed: int
) -> int:
    """Test what the model makes of the inputs; give the passes that a copy was trained for."""
    with contextlib.suppress(UnstuckError, RuntimeError):
        tests.add("validation", _validated(training, judge, place, examples, seed))
    if tests.found:
        return 0
    with contextlib.suppress(UnstuckError, RuntimeError):
        copy = fresh_copy(training.model, seed=seed)

        def loss(_model: nn.Module, content: Any) -> Tensor:
            return training.loss(copy, content)

        own = dataclasses.replace(training, loss=loss)
        tests.add("random features", _at_random(own, judge, examples, place, seed))
        if not tests.found:
            tests.add("trained copy", _trained(own, copy, judge, place, seed))
            return PASSES
    return 0


def _at_random(own: Training, judge: Judge, examples: Examples, place: int, seed: int) -> Dependence | None:
    """Test what a copy makes of the inputs that has learnt nothing."""
    batches = judge.objective.batches

    def again() -> Dependence | None:
        if sum(batch.examples for batch in batches) < MANY * len(examples.targets):
            return None
        return _predicted(own, judge, batches[::-1], place, seed + 1, seen=examples.marks)

    first = _predicted(own, judge, batches, place, seed)
    return first and _settled(first, again)


def _validated(
    training: Training, judge: Judge, place: int, examples: Examples, seed: int
) -> Dependence | None:
    """Test what the model as it is makes of data that it does not train on."""
    if training.validation is None:
        return None
    drawn = draw(training.validation, seed=seed, enough=lambda _, examples: examples >= MOST)
    return _predicted(training, judge, drawn.batches, place, seed, seen=examples.marks)


def _trained(own: Training, copy: nn.Module, judge: Judge, place: int, seed: int) -> Dependence | None:
    """Train the copy on half of the examples, and test what it makes of the other half."""
    begun = deepcopy(copy.state_dict())
    first, second = halves(judge.objective.batches)

    def crossed(one: Sequence[Batch], other: Sequence[Batch], seed: int) -> Dependence | None:
        learn(own, copy, judge, one, seed=seed)
        if all(torch.equal(begun[name], parameter) for name, parameter in copy.named_parameters()):
            return None  # without any gradient it learns nothing, whatever the labels
        learnt = _gather([batch.content for batch in one], place).marks
        return _predicted(own, judge, other, place, seed, seen=learnt)

    def again() -> Dependence | None:
        copy.load_state_dict(begun)
        return crossed(second, first, seed + 1)

    found = crossed(first, second, seed)
    return found and _settled(found, again)


def learn(own: Training, copy: nn.Module, judge: Judge, batches: Sequence[Batch], *, seed: int) -> None:
    """Train the copy that a training's loss is of on some of the judge's batches."""
    objective = judge.objective
    for batch in batches:
        objective.ledger.spend(PASSES * GRADIENT, batch.examples)
    with objective.replay.session():
        contents = [moved(batch.content, objective.parameters.device, copy=True) for batch in batches]
        train(copy, own.loss, contents, [batch.examples for batch in batches], passes=PASSES, seed=seed)


def halves(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Split each batch in two, so that few batches, or one, can be split as well."""
    halves: tuple[list[Batch], list[Batch]] = [], []
    for batch in batches:
        for half, chosen in zip(halves, torch.arange(batch.examples).tensor_split(2), strict=True):
            if len(chosen):
                half.append(Batch(part(batch.content, chosen, batch.examples), len(chosen), batch.seed))
    return halves


def _predicted(
    training: Training,
    judge: Judge,
    batches: Sequence[Batch],
    place: int,
    seed: int,
    seen: Tensor | None = None,
) -> Dependence | None:
    """Test whether the last layer's outputs predict the labels of examples other than those `seen`."""
    outputs: list[Tensor] = []
    contents: list[Any] = []
    for batch in batches:
        end = tail(trace(training, judge.objective, batch))
        fitting = [t.flatten(1) if t.ndim > 1 else t[:, None] for t in end.present() if t.ndim]
        fitting = [tensor for tensor in fitting if len(tensor) == batch.examples]
        if not fitting:
            return None
        outputs.append(torch.cat(fitting, 1).cpu())
        contents.append(batch.content)
        if sum(map(len, outputs)) >= 2 * MOST:
            break
    examples = _gather(contents, place, extra=outputs)
    if seen is not None:
        examples = examples.without(seen)
    if len(examples.targets) < FEWEST or examples.extra is None:
        return None
    return dependence([examples.extra], columns(examples.targets), seed=seed)


def _constant(traced: Trace) -> float | None:
    """The least loss that one output for all examples reaches, on the batch that was traced."""
    try:
        free, _ = free_end(tail(traced))
        present = free.present()
        if any(not tensor.ndim for tensor in present):
            return None
        rows = [tensor.mean(0, keepdim=True) for tensor in present]

        def same(values: Sequence[Tensor]) -> Tensor:
            return free([row.expand_as(tensor) for row, tensor in zip(values, present, strict=True)])

        lowest = value(same, least(same, [rows]))
    except UnstuckError:
        return None
    return lowest if math.isfinite(lowest) else None
