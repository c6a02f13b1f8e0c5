"""Remedies proved: each tried from the state the run is in, against going on, at equal cost, over several orders."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from unstuck import processes
from unstuck.errors import TrainingError
from unstuck.estimate import Estimate
from unstuck.findings.proven import least_gain
from unstuck.findings.records import Cause, Verdict
from unstuck.measurements.judging import Halves
from unstuck.measurements.records.trials import Trial, Trials, Untried
from unstuck.objective import Objective
from unstuck.objective.pace import seconds_per_gradient
from unstuck.objective.sampling import reason, total_bytes
from unstuck.progress import Told
from unstuck.remedies.anew import begun_anew
from unstuck.remedies.catalogue import STEPS, choose
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import ANEW, Situation, Treatment, together
from unstuck.training import Training
from unstuck.trials.course import Course, Ended, Held, nowhere
from unstuck.trials.entrants import NO_TIME, Entrant, to_prove
from unstuck.trials.memory import Memory, Outcome
from unstuck.trials.orders import Orders
from unstuck.trials.planning import DEARER, FEWEST_ORDERS, LOOK, PROVED, plan, provable
from unstuck.trials.sample import finite, sampled
from unstuck.trials.side import Side, validation_batches
from unstuck.trials.statistics import LEVEL, gain, interval

# How far each continuation goes: four passes, within these bounds, in batches.
_PASSES, _FEWEST, _MOST = 4, 80, 160

# At these the way out costs something itself, before the first step.
_CRITICAL = frozenset({Cause.SADDLE_POINT, Cause.LOCAL_MAXIMUM, Cause.PLATEAU})


# The screening: a third of the way for all, the rest for the better half.
_FIRST_LEG = 1.0 / 3.0


@dataclass(frozen=True)
class Allowance:
    """What the trials may take.

    Attributes:
        left: Seconds that are left.
        memory: Bytes for copies of parameters and optimizer states.
        seed: Of all randomness.
    """

    left: Callable[[], float]
    memory: float
    seed: int

    def over(self) -> bool:
        """Whether no time is left."""
        return self.left() <= 0.0


def try_remedies(training: Training, verdict: Verdict, allowed: Allowance, told: Told) -> Trials:
    """Try the remedies that a verdict suggests from the very state of the run, each against going on as before.

    First all of them go a third of the way on one order of the batches, and the better half of them all of it. The
    best three come to the proof: several other orders, on which the choice has had no influence.

    Raises:
        UnstuckError: There is no optimizer, or not the time for a few steps of each.
    """
    try:
        objective = sampled(training, verdict, seed=allowed.seed)
    except TrainingError:
        if verdict.measured.non_finite is None:
            raise
        # Nothing can go on from parameters that are NaN; what can be tried is to begin anew, each time otherwise.
        fresh = begun_anew(training, seed=allowed.seed)
        return _Proof(fresh, finite(fresh, allowed.seed), verdict, allowed, told, lost=True).run()
    return _Proof(training, objective, verdict, allowed, told, lost=False).run()


class _Proof:
    def __init__(
        self,
        training: Training,
        objective: Objective,
        verdict: Verdict,
        allowed: Allowance,
        told: Told,
        *,
        lost: bool,
    ) -> None:
        self._lost = lost
        self._training, self._objective, self._verdict = training, objective, verdict
        self._allowed, self._told = allowed, told
        self._begun = processes.clock()
        self._one = 0.0  # what going on all of the way costs
        self._paid = objective.ledger.examples
        self._batch = objective.examples / len(objective.batches)
        self._memory = Memory(objective, training.optimizer, seed=allowed.seed, over=allowed.over)
        self._steps, self._most, self._planned = self._plan()
        self._horizon = self._steps * self._batch
        known = Situation(training, verdict.measured, verdict.findings, allowed.seed, self._horizon)
        self._held = self._hold()
        sample = replace(verdict.measured.sample, whole=True) if lost else verdict.measured.sample
        self._orders = Orders(training, sample, math.ceil(self._steps), allowed.seed)
        self._validation = validation_batches(training, objective.examples, seed=allowed.seed)
        # What is learnt by heart lowers the training loss; whether a remedy helps is seen on the validation data.
        self._by_validation = verdict.cause is Cause.GENERALIZATION_GAP and bool(self._validation)
        self._on: list[Ended] = []
        self._untried: list[Untried] = []
        ranked = choose(known)
        chosen = ranked[: self._most]
        left_out = {each.name for each in ranked} - {each.name for each in chosen}
        self._untried += [Untried(name, "there was no time for it") for name in sorted(left_out)]
        self._treatments = self._with_room([_after_all_anew(each) for each in chosen] if lost else chosen)

    def run(self) -> Trials:
        entrants = self._screened()
        going_on, cause = self._comes_to(self._on[0]), self._verdict.cause
        proved = to_prove(entrants, going_on, cause, self._provable())
        orders = self._prove(proved)
        return self._record(entrants, proved, orders)

    def _plan(self) -> tuple[float, int, int]:
        """How many batches each continuation may take, how many remedies are tried, and over how many orders."""
        room = self._memory.decision("room", self._affordable)
        critical = self._verdict.cause in _CRITICAL
        fewest = _MOST if critical else _FEWEST
        return plan(room, min(max(_PASSES * len(self._objective.batches), fewest), _MOST))

    def _affordable(self) -> float:
        """How many batches all continuations together may take, by the time of one gradient and what is left."""
        return self._allowed.left() / (DEARER * seconds_per_gradient(self._objective, [0]))

    def _with_room(self, treatments: Sequence[Treatment]) -> list[Treatment]:
        """Leave out the last of them where the copies of all would not fit into memory at once."""
        state = self._training.optimizer.state if self._training.optimizer else {}
        held = sum(total_bytes(each) for each in state.values())
        # Parameters, their gradients and two flat vectors, beside the optimizer's state.
        each = 4 * self._objective.theta.nbytes + held
        most = max(int(processes.least(self._allowed.memory / each)), PROVED)
        self._untried += [
            Untried(left.name, "no memory was left for its copies") for left in treatments[most:]
        ]
        return list(treatments[:most])

    def _hold(self) -> Held:
        """Choose the batches that all are looked at on."""
        sample = self._verdict.measured.sample
        halves = Halves.of(len(self._objective.batches), exhaustive=sample.whole)
        most = max(int(LOOK * self._steps / 0.5), 4)
        chosen = halves.judges
        if len(chosen) > most:
            chosen = tuple(chosen[index * len(chosen) // most] for index in range(most))
        return Held(chosen, tuple(self._objective.weights[index] for index in chosen))

    def _course(self, treatment: Treatment | None, number: int) -> Course:
        side = Side(self._training, self._objective, self._validation) if self._validation else None
        run = Run(side.training, side.objective) if side else Run(self._training, self._objective)
        before = self._objective.ledger.examples
        if treatment is not None:
            processes.together(lambda: treatment.apply(run))
        setup = self._objective.ledger.examples - before
        return Course(run, self._orders(number), self._horizon, self._held, setup, side)

    def _screened(self) -> list[Entrant]:
        """Run all on one order, the better half of them to the end."""
        self._told("going on, for comparison", 0.0)
        self._on.append(self._through(None, 0))
        self._one = self._objective.ledger.examples - self._paid
        entrants: list[Entrant] = []
        for number, treatment in enumerate(self._treatments):
            self._told(f"trying {treatment.name}", 0.4 * number / len(self._treatments))
            self._enter(treatment, entrants)
        step = self._mixed(entrants)
        going = sorted(entrants, key=lambda entrant: entrant.end)
        kept = going[: max(math.ceil(len(going) / 2), PROVED)]
        kept += [
            entrant for entrant in going if entrant not in kept and entrant.addresses(self._verdict.cause)
        ]
        for entrant in entrants:
            if entrant not in kept:
                entrant.given_up = "among the worse half after a third of the way"
            self._finish(entrant, further=entrant in kept)
        if step is not None and (both := entrants[-1]).end > step.end - least_gain(
            self._verdict.measured
        ) * abs(step.end):
            both.given_up = both.given_up or f"no better than {step.treatment.name} alone"
        return entrants

    def _enter(self, treatment: Treatment, entrants: list[Entrant]) -> None:
        if self._allowed.over():
            self._untried.append(Untried(treatment.name, "the time was over"))
            return
        entrant = Entrant(treatment, None, [], math.inf)

        def go() -> Outcome:
            entrant.course = self._started(treatment)
            return Outcome(self._end(entrant.course))

        try:
            entrant.end = self._memory.outcome((treatment, 0, "begun", self._steps), go).end
        except Exception as error:  # a stranger's model or optimizer may raise anything
            self._untried.append(Untried(treatment.name, reason(error)))
            return
        entrants.append(entrant)

    def _started(self, treatment: Treatment) -> Course:
        course = self._course(treatment, 0)
        course.advance(_FIRST_LEG, self._allowed.over)
        return course

    def _mixed(self, entrants: list[Entrant]) -> Entrant | None:
        """Enter what treats the cause together with other steps, where these alone gain more; gives the latter."""
        aimed = [entrant for entrant in entrants if entrant.addresses(self._verdict.cause)]
        steps = [entrant for entrant in entrants if entrant.treatment.name in STEPS and entrant not in aimed]
        if not aimed or not steps:
            return None
        aim, step = (min(each, key=lambda entrant: entrant.end) for each in (aimed, steps))
        before = len(entrants)
        if step.end < aim.end and not aim.treatment.rated:
            self._enter(together(aim.treatment, step.treatment), entrants)
        return step if len(entrants) > before else None

    def _finish(self, entrant: Entrant, *, further: bool) -> None:
        """Let go of the copies of parameters and optimizer, once they have gone all of the way."""

        def go() -> Outcome:
            course = entrant.course or self._started(entrant.treatment)
            if further:
                course.advance(1.0, self._allowed.over)
            return Outcome(self._end(course) if further else entrant.end, course.ended(self._batch))

        leg = "whole" if further else "given up"
        outcome = self._memory.outcome((entrant.treatment, 0, leg, self._steps), go)
        entrant.course, entrant.end = None, outcome.end
        entrant.ended.append(outcome.kept())

    def _end(self, course: Course) -> float:
        """What the remedies are compared by on the way."""
        validation = course.validation() if self._by_validation else None
        return course.end() if validation is None else validation

    def _through(self, treatment: Treatment | None, number: int) -> Ended:
        if treatment is None and self._lost:
            return nowhere(len(self._held.indices), len(self._validation))

        def go() -> Outcome:
            course = self._course(treatment, number)
            course.advance(1.0, self._allowed.over)
            return Outcome(math.nan, course.ended(self._batch))

        return self._memory.outcome((treatment, number, "alone", self._steps), go).kept()

    def _provable(self) -> int:
        """How many remedies can be proved in the time that is left, at the pace that the screening had."""

        def make() -> float:
            spent = self._objective.ledger.examples - self._paid
            if not spent or not self._one:
                return float(PROVED)
            return float(
                provable(self._allowed.left(), self._one * (processes.clock() - self._begun) / spent)
            )

        return int(self._memory.decision("proved", make))

    def _comes_to(self, ended: Ended) -> float:
        """Where a continuation ends, by what the remedies are compared by."""
        validation = ended.curve.validation if self._by_validation else None
        return ended.curve.end if validation is None else validation

    def _prove(self, entrants: Sequence[Entrant]) -> int:
        """Run the chosen ones over fresh orders, as many as there is time for; gives how many."""
        done, longest = 0, 0.0
        for number in range(1, self._planned + 1):
            begun = processes.clock()
            if self._allowed.left() < longest:
                break
            share = (number - 1) / self._planned
            self._told(f"proving on order {number} of {self._planned}", 0.4 + 0.6 * share)
            going_on = self._through(None, number)
            others = [self._through(each.treatment, number) for each in entrants]
            if self._allowed.over():
                break
            self._on.append(going_on)
            for entrant, ended in zip(entrants, others, strict=True):
                entrant.ended.append(ended)
            done, longest = number, max(longest, processes.clock() - begun)
        return done

    def _record(self, entrants: Sequence[Entrant], proved: Sequence[Entrant], orders: int) -> Trials:
        enough = orders >= FEWEST_ORDERS
        trials = [self._trial(each, len(proved), judged=enough and each in proved) for each in entrants]
        ledger = self._objective.ledger
        return Trials(
            going_on=tuple(ended.curve for ended in self._on),
            tried=tuple(trials),
            untried=tuple(self._untried),
            orders=orders,
            horizon=self._steps,
            batches=len(self._held.indices),
            whole=self._verdict.measured.sample.whole,
            level=LEVEL,
            by_validation=self._by_validation,
            gradients=(ledger.examples - self._paid) / self._objective.examples,
            seconds=processes.clock() - self._begun,
            complete=orders == self._planned,
            least=least_gain(self._verdict.measured),
        )

    def _trial(self, entrant: Entrant, comparisons: int, *, judged: bool) -> Trial:
        treatment = entrant.treatment
        trial = Trial(
            name=treatment.name,
            causes=tuple(sorted(treatment.treats)),
            change=treatment.change,
            code=treatment.code,
            source=treatment.source,
            setup=math.fsum(each.setup for each in entrant.ended) / len(entrant.ended) / self._batch,
            curves=tuple(ended.curve for ended in entrant.ended),
            given_up=entrant.given_up or ("" if judged else NO_TIME),
        )
        if not judged:
            return trial
        going, others = self._on[1:], entrant.ended[1:]
        validated = self._validated(going, others)
        found = gain(
            [ended.held for ended in going],
            [ended.held for ended in others],
            self._held.weights,
            whole=self._verdict.measured.sample.whole,
        )
        if self._by_validation and validated is not None:
            found = validated
        low, high = interval(found, comparisons)
        return replace(trial, gain=found, low=low, high=high, validation=validated)

    def _validated(self, going: Sequence[Ended], others: Sequence[Ended]) -> Estimate | None:
        if not self._validation:
            return None
        weights = [float(batch.examples) for batch in self._validation]
        on, off = ([ended.validation for ended in those] for those in (going, others))
        return gain(on, off, weights, whole=False)


def _after_all_anew(treatment: Treatment) -> Treatment:
    return replace(
        treatment,
        change=f"all begun anew; {treatment.change}",
        code=(ANEW, *(line for line in treatment.code if line != ANEW)),
        in_place=False,
    )
