"""From a training to its diagnosis: the one place that sees every stage."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike

import torch

from unstuck import processes
from unstuck.curvature.vectors import Room
from unstuck.diagnosis import Diagnosis
from unstuck.errors import MeasurementError, UnstuckError
from unstuck.findings.progress import falls
from unstuck.findings.proven import with_trials, worth_trying
from unstuck.findings.records import Kind, Verdict
from unstuck.findings.reliability import as_told
from unstuck.findings.verdict import conclude, explained, settled
from unstuck.history import History
from unstuck.interrupts import cut_short
from unstuck.measurements.bill import Bill
from unstuck.measurements.division import divided, unwrapped
from unstuck.measurements.examination import DENSE, Asked, Examination
from unstuck.measurements.known import Objectives, begun, broken
from unstuck.measurements.model.anywhere import find_anywhere
from unstuck.measurements.past import measure_past
from unstuck.measurements.records import Cost, Measurements, Omission, Sample
from unstuck.measurements.records.updates import NonFinite
from unstuck.measurements.surveys import Limits
from unstuck.objective import Draw, Objective, draw
from unstuck.objective.affordable import FEWEST_BATCHES, affordable, fewest
from unstuck.objective.ledger import Ledger, peak_bytes
from unstuck.objective.looking import looking
from unstuck.objective.pace import fastest
from unstuck.objective.parameters import check_names, patterns
from unstuck.objective.sampling import reason, repeated
from unstuck.progress import Told, untold
from unstuck.training import Training, check_budget, check_training
from unstuck.trials.planning import shortest
from unstuck.trials.proof import Allowance, try_remedies

# What a verdict costs, roughly, in gradients: 60 where nothing is critical, twice as much where something is.
_TYPICAL_COST = 100.0

# What the shortest one costs; where the budget is less than that, fewer batches are looked at.
_SHORTEST_COST = 8.0

# Shares of the budget: a small sample first, which decides clear cases quickly; the rest if it is not sure, and once
# more where that has cost less than it typically does.
_ROUNDS = (0.25, 0.9, 0.9)

# Share of the budget for measuring, when remedies are to be tried afterwards: all of it where no trial fits the rest.
_MEASURING = 0.5

# Shares of the memory: for graphs, for Lanczos vectors, for the sample.
_GRAPHS, _VECTORS, _DATA = 0.35, 0.25, 0.1

# More Lanczos vectors than this answer no question better, whatever the memory.
_MOST_VECTORS = 512

# A second look at a sample that is hardly larger would only repeat the first.
_WORTHWHILE = 1.5

# A budget larger by this is worth a word.
_MUCH_LARGER = 1.5

# A verdict at this confidence needs no larger sample.
_SURE = 0.9

_NO_TRIALS = (
    "No remedy was tried: only a part of the parameters was looked at, and a remedy changes the whole run."
)

_HASTY = (
    "The gradient of one batch takes {one:.2g} s, so that there was time for {batches} batches only: with about "
    "{times:.0f} times the budget more of them could judge."
)

_NOTHING = Cost(gradients=0.0, products=0, seconds=0.0, peak_bytes=0, engine="")


def diagnose(  # noqa: PLR0913 - what is spent, on what, and who hears of it
    training: Training,
    *,
    history: History | None = None,
    budget: float = 60.0,
    trials: bool = True,
    seed: int = 0,
    memory: float | None = None,
    only: Sequence[str] = (),
    resume: str | PathLike[str] | None = None,
    progress: Told | None = None,
) -> Diagnosis:
    """Tell why the loss of a training has stopped going down, and try what may get it moving again.

    Nothing of the training is changed, not by one bit: parameters, buffers, gradients, optimizer, random
    generators and data are afterwards as they were, also after an exception or Ctrl-C. After Ctrl-C the
    diagnosis holds what was known by then, and says `interrupted`.

    Where a process group of `torch.distributed` is there, all processes must call it, each with its shard of the
    data; all get the same diagnosis. Ctrl-C then ends all of them.

    Args:
        training: What is stuck.
        history: What the run wrote down on its way here, if it did: it tells since when the loss has stopped, and
            helps where the next few hundred steps leave open whether it still falls.
        budget: Seconds to spend, roughly; the sample of data is chosen to fit, and the length of the trials.
        trials: Whether to try remedies from the very state the run is in; else it is only measured.
        seed: Of all randomness.
        memory: Bytes to use beyond what is in use now; by default what is free.
        only: Patterns of names, as in a shell, such as `"h.11.*"`, matched from the beginning or after a dot: these
            parameters alone are looked at, the others held fixed. By default all are.
            What looks at the optimizer, the layers and the data still sees all of them; no remedy is tried.
        resume: A folder that keeps what is evaluated, and what it holds is not evaluated again: after the end of a
            process, by whatever, the same call goes on where that was.
        progress: Is told what is done next, and which share of the whole is behind.

    Raises:
        TrainingError: The training cannot be evaluated; the message says why.
        UnstuckError: An argument is none of the above.
        KeyboardInterrupt: Only when it came before anything was known.
    """
    check_training(training)
    check_budget(budget)
    training = replace(training, model=unwrapped(training.model))
    only = patterns(only)
    check_names(training.model, only)
    start = processes.clock()
    # A remedy changes the run as a whole: what it gains says nothing of a part, nor the part's cause what to try.
    trying = trials and training.optimizer is not None and not only
    told = progress or untold
    spending = _Spending(
        start=start,
        budget=budget,
        trials=(1.0 - _MEASURING) * budget if trying else 0.0,
        memory=processes.least(processes.free_memory() if memory is None else memory),
        seed=seed,
        told=(lambda stage, share: told(stage, _MEASURING * share)) if trying else told,
        recall=_recall(history),
        only=only,
    )
    spending.told("reading the data", 0.0)
    with looking(training, resume=resume, memory=spending.memory) as training:
        diagnosis = _in_rounds(training, spending)
        if trying and worth_trying(diagnosis.verdict) and not diagnosis.interrupted:
            allowed = Allowance(
                left=lambda: budget - (processes.clock() - start),
                memory=_VECTORS * spending.memory,
                seed=seed,
            )
            diagnosis = _with_trials(
                training,
                diagnosis,
                allowed,
                lambda stage, share: told(stage, _MEASURING + (1 - _MEASURING) * share),
            )
    told("done", 1.0)
    if trials and only:
        diagnosis = _noted(diagnosis, _NO_TRIALS)
    return replace(diagnosis, verdict=as_told(diagnosis.verdict))


def _noted(diagnosis: Diagnosis, note: str) -> Diagnosis:
    verdict = diagnosis.verdict
    return replace(diagnosis, verdict=replace(verdict, notes=(*verdict.notes, note)))


def _with_trials(training: Training, diagnosis: Diagnosis, allowed: Allowance, told: Told) -> Diagnosis:
    """Add what the trials show; whatever becomes of them, the diagnosis stands."""
    verdict = diagnosis.verdict
    try:
        return Diagnosis(with_trials(verdict, try_remedies(training, verdict, allowed, told)))
    except KeyboardInterrupt:
        return replace(diagnosis, interrupted=True)
    except Exception as error:  # strangers' models and optimizers may raise anything
        return _noted(diagnosis, f"No remedy was tried: {reason(error)}.")


@dataclass(frozen=True)
class _Spending:
    start: float
    budget: float
    trials: float  # seconds of it that are kept for them
    memory: float
    seed: int
    told: Told
    recall: Callable[[Measurements], Measurements]
    only: tuple[str, ...]
    gradient: float = math.nan  # seconds of one batch's

    def at_pace(self, gradient: float) -> "_Spending":
        """Keep time for trials only where the shortest would fit it."""
        return replace(
            self, gradient=gradient, trials=self.trials if shortest(gradient) <= self.trials else 0.0
        )

    @property
    def measuring(self) -> float:
        """Seconds that are not kept for trials."""
        return self.budget - self.trials

    @property
    def affordable(self) -> float:
        """Batches that the shortest verdict can look at."""
        return self.measuring / (_SHORTEST_COST * self.gradient)

    @property
    def seconds(self) -> float:
        return processes.clock() - self.start

    def left(self) -> float:
        """Seconds for products; what follows them needs the rest."""
        return 0.8 * self.measuring - self.seconds


def _recall(history: History | None) -> Callable[[Measurements], Measurements]:
    """Give what adds the recorded past to what was measured, or says why it cannot."""
    if history is None:
        return lambda measured: measured
    try:
        past = measure_past(history)
    except MeasurementError as error:
        left_out = Omission("past", str(error))
        return lambda measured: replace(measured, omitted=(*measured.omitted, left_out))
    return lambda measured: replace(measured, past=past)


def _in_rounds(training: Training, spending: _Spending) -> Diagnosis:
    first = draw(training.data, seed=spending.seed, enough=lambda batches, _: batches >= 1)
    bill = Bill(Ledger())
    if found := _find_non_finite(training, first, bill):
        return _broken(training, first, found, bill, spending)
    spending = spending.at_pace(fastest(Objective(training, first.batches)))
    pace = spending.gradient / first.examples
    diagnosis: Diagnosis | None = None
    for share in _ROUNDS:
        try:
            drawn = _sample(training, spending, _most(share, spending, pace, diagnosis))
            if diagnosis and drawn.examples < _WORTHWHILE * diagnosis.verdict.measured.sample.examples:
                break
            further = _examine(training, drawn, spending)
        except KeyboardInterrupt:
            if diagnosis is None:
                raise
            return replace(diagnosis, interrupted=True)
        if further.interrupted and diagnosis is not None:
            # The round before went through to its end, on a smaller sample: it says more.
            return replace(diagnosis, interrupted=True)
        diagnosis = further
        if diagnosis.interrupted or _sure(diagnosis.verdict):
            break
    assert diagnosis is not None  # noqa: S101  # there is at least one round
    return _told_of_haste(diagnosis, spending)


def _most(share: float, spending: _Spending, pace: float, before: Diagnosis | None) -> float:
    """How many examples time allows for, by what the round before has cost, if that is more."""
    left = share * spending.measuring - spending.seconds
    typical = max(left, 0.05) / pace / _TYPICAL_COST
    if before is None:
        return typical
    cost = before.verdict.cost
    return max(typical, before.verdict.measured.sample.examples * max(left, 0.0) / cost.seconds)


def _told_of_haste(diagnosis: Diagnosis, spending: _Spending) -> Diagnosis:
    sample, times = diagnosis.verdict.measured.sample, FEWEST_BATCHES / spending.affordable
    if sample.whole or times < _MUCH_LARGER:
        return diagnosis
    return _noted(diagnosis, _HASTY.format(one=spending.gradient, batches=sample.batches, times=times))


def _sample(training: Training, spending: _Spending, most: float) -> Draw:
    """Draw as many batches as time and memory allow, at least a few."""
    room, least = _DATA * spending.memory, fewest(spending.affordable)
    return affordable(training.data, seed=spending.seed, most=most, room=room, least=least)


def _examine(training: Training, drawn: Draw, spending: _Spending) -> Diagnosis:
    bill = Bill(Ledger())
    spending.told("the gradient", 0.01)
    objectives = _objectives(training, drawn, bill.ledger, spending.only)
    stochastic = objectives.precise.stochastic
    if stochastic and len(drawn.batches) < (least := fewest(spending.affordable)):
        # One pass over the data shows one draw of the dropout; judging needs several.
        drawn = repeated(drawn, least)
        objectives = _objectives(training, drawn, bill.ledger, spending.only)
    sample = Sample(
        examples=drawn.examples,
        batches=len(drawn.batches),
        exhaustive=drawn.exhausted and not stochastic,
        stochastic=stochastic,
        whole=drawn.exhausted,
        draws=drawn.times,
    )
    limits = Limits(
        left=spending.left,
        graphs=_GRAPHS * spending.memory,
        room=Room.of(_VECTORS * spending.memory, objectives.precise.theta, _MOST_VECTORS),
        seed=spending.seed,
        data=_DATA * spending.memory,
        rest=lambda: spending.measuring - spending.seconds,
    )
    try:
        examination = Examination(training, objectives, sample, limits, bill, divided(training, drawn))
    except KeyboardInterrupt:
        measured = begun(training, objectives.own, sample)
        cost = _cost(bill, drawn, spending, "")
        return Diagnosis(conclude(spending.recall(measured), cost), interrupted=True)
    if not examination.finite and (found := _find_non_finite(training, drawn, bill)):
        return _broken(training, drawn, found, bill, spending)
    asked = Asked(
        explained=lambda measured: explained(conclude(spending.recall(measured), _NOTHING)),
        enough=lambda measured: _enough(spending.recall(measured)),
        about_steps=lambda measured: _about_steps(spending.recall(measured)),
    )
    interrupted = cut_short(lambda: examination.run(spending.told, asked))
    cost = _cost(bill, drawn, spending, examination.engine)
    return Diagnosis(conclude(spending.recall(examination.measured()), cost), interrupted)


def _find_non_finite(training: Training, drawn: Draw, bill: Bill) -> NonFinite | None:
    with bill.item("non_finite"):
        return find_anywhere(training, drawn.batches, bill.ledger)


def _broken(training: Training, drawn: Draw, found: NonFinite, bill: Bill, spending: _Spending) -> Diagnosis:
    """Nothing can be measured behind a NaN, but where it arises can be said."""
    sample = Sample(
        drawn.examples, len(drawn.batches), exhaustive=False, stochastic=False, whole=drawn.exhausted
    )
    measured = replace(spending.recall(broken(training, sample, found)), division=divided(training, drawn))
    return Diagnosis(conclude(measured, _cost(bill, drawn, spending, "")))


def _cost(bill: Bill, drawn: Draw, spending: _Spending, engine: str) -> Cost:
    seconds = spending.seconds
    return Cost(
        gradients=bill.ledger.gradients(drawn.examples),
        products=bill.ledger.products,
        seconds=seconds,
        peak_bytes=peak_bytes(),
        engine=engine,
        measurements=bill.items(drawn.examples, seconds),
    )


def _objectives(training: Training, drawn: Draw, ledger: Ledger, only: tuple[str, ...]) -> Objectives:
    """Compute small models in float64, where the sign of small eigenvalues is beyond doubt.

    What looks into the model or at the optimizer sees all parameters, also where `only` some are to move.
    """
    own = Objective(training, drawn.batches, ledger=ledger)
    narrow = Objective(training, drawn.batches, ledger=ledger, among=only) if only else own
    if narrow.size > DENSE or narrow.parameters.dtype == torch.float64:
        return Objectives(own, narrow)
    try:
        precise = Objective(training, drawn.batches, ledger=ledger, dtype=torch.float64, among=only)
    except UnstuckError:  # a loss that insists on its own type
        return Objectives(own, narrow)
    return Objectives(own, precise)


def _sure(verdict: Verdict) -> bool:
    return verdict.confidence >= _SURE and (settled(verdict) or verdict.point.kind is not Kind.UNDECIDED)


def _enough(measured: Measurements) -> bool:
    """Whether the cheap measurements name a cause surely, or one that no curvature could change."""
    verdict = conclude(measured, _NOTHING)
    return settled(verdict) or verdict.confidence >= _SURE


def _about_steps(measured: Measurements) -> bool:
    """Whether the loss does not fall, and nothing but steps could explain it."""
    return not falls(measured) and not settled(conclude(measured, _NOTHING))
