"""Answers about the spectrum: products and CPU time against PyHessian, hessian-eigenthings and curvlinops.

Every contestant starts from the model and the batches; building its operator or keeping its graphs is in its
time. We stop by ourselves. Peers are asked in three ways (see `answers`): by default; *stated*, the cheapest
setting of those tried whose own error estimate or tolerance justifies the answer (PyHessian states none); and
*lucky*, the cheapest setting that only who knows the truth could pick. A ratio is the CPU time of the best peer
over ours, turn by turn. a* is workload a with all examples in one batch, b and c have eight; PyHessian always
has one batch, where it is fastest.

The questions: is lambda_min negative, and surely so; the five largest eigenvalues to 1 %; the spectral density,
by its Wasserstein distance to the truth over lambda_max; and all of it from one run.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from statistics import median

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from benchmarks import rivals
from benchmarks.answers import DOUBT, Answer, Curvlinops, Eigenthings, PyHessian, Way, near, unstuck
from benchmarks.oracle import Truth, truth
from benchmarks.tables import Table
from benchmarks.timing import cpu, take_turns
from benchmarks.workloads import Workload, workloads
from unstuck.curvature.records import Question

SIGN = Question(top=0, negative_to=None)
FIVE = Question(top=5, tolerance=math.inf)
ALL = Question(top=5, negative_to=None)
SEEDS = {"a": 3, "a*": 3, "b": 1, "c": 1}
ROUNDS = {"a": 5, "a*": 5, "b": 3, "c": 2}
GRADES = ("stated", "lucky")
STEPS, RUNS = (12, 20, 30, 45, 80), (1, 2, 5, 10)  # of peers' densities

COLUMNS = ("workload", "seed", "contestant", "how", "grade", "products", "CPU s", "right", "best peer / ours")


def run() -> list[Table]:
    """Ask everybody everything."""
    entered = [*workloads()[:1], merged(workloads()[0]), *workloads()[1:]]
    sign: list[list[object]] = []
    five: list[list[object]] = []
    both: list[list[object]] = []
    with rivals.setting():
        for workload in entered:
            for seed in range(SEEDS[workload.key]):
                contest = Contest(workload, seed)
                sign += contest.sign()
                five += contest.five()
                both += contest.everything()
        density = [row for workload in entered[:2] for row in densities(workload)]
    return [
        Table("The sign of lambda_min, beyond doubt", COLUMNS, sign),
        Table("The five largest eigenvalues to 1 %", COLUMNS, five),
        Table(
            "Density: distance to the truth, over lambda_max",
            ("workload", "contestant", "how", "products", "CPU s", "distance", "CPU s over ours"),
            density,
            "Medians over three starts. Peers' fewest products, of the settings tried, that are as near as we are.",
        ),
        Table(
            "Sign, five largest and density together",
            COLUMNS,
            both,
            "Peers by a call for each, or, where lucky, all read from the raw quadrature of one density run.",
        ),
    ]


def merged(workload: Workload) -> Workload:
    """Put all examples into one batch."""
    inputs, targets = (torch.cat(parts) for parts in zip(*workload.batches, strict=True))
    return dataclasses.replace(workload, key=f"{workload.key}*", batches=((inputs, targets),))


class Contest:
    """All questions on one workload from one seed."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload, self._seed, self._real = workload, seed, known(workload)
        self._eigenthings = Eigenthings(workload, seed=seed)
        self._curvlinops = Curvlinops(workload, seed=seed)
        self._pyhessian = PyHessian(workload, seed=seed)
        self._chosen: dict[tuple[str, str], Way] = {}

    def sign(self) -> list[list[object]]:
        """Is lambda_min negative?"""
        radius = self._real.values[-1]

        def right(answer: Answer) -> bool:
            return answer.values.min() < -DOUBT * radius

        ways = [*self._eigenthings.sign(radius), *self._curvlinops.sign()]
        return self._compare("sign", SIGN, right, ways, self._pyhessian.sign())

    def five(self) -> list[list[object]]:
        """The five largest."""
        wanted = self._real.highest(5)

        def right(answer: Answer) -> bool:
            return near(answer.top, wanted)

        ways = [*self._eigenthings.top(wanted), *self._curvlinops.top()]
        return self._compare("five", FIVE, right, ways, self._pyhessian.top())

    def everything(self) -> list[list[object]]:
        """Both, and a density from as many products as we take."""
        radius, wanted = self._real.values[-1], self._real.highest(5)

        def right(answer: Answer) -> bool:
            return answer.values.min() < -DOUBT * radius and near(answer.top, wanted)

        steps = self._ask(ALL).products
        peers = {"hessian-eigenthings": self._eigenthings, "curvlinops": self._curvlinops}
        ways = [self._separately(name, peer.density, steps) for name, peer in peers.items()]
        raw = {"hessian-eigenthings": self._eigenthings, "PyHessian": self._pyhessian}
        lucky = [
            Way(
                name,
                f"raw quadrature, {count} steps",
                "lucky",
                lambda peer=peer, count=count: peer.density(count),
            )
            for name, peer in raw.items()
            for count in sorted({steps, *range(8, 60, 4)})
        ]
        ordered = [iter([way for way in lucky if way.who == name]) for name in raw]
        return self._compare("all", ALL, right, ways, *ordered)

    def _separately(self, name: str, density: Callable[[int], Answer], steps: int) -> Way:
        sign, five = (self._chosen[question, name] for question in ("sign", "five"))

        def ask() -> Answer:
            low, high, rest = sign.ask(), five.ask(), density(steps)
            count = low.products + high.products + rest.products
            return Answer(count, np.r_[low.values, high.values])

        return Way(name, f"{sign.how}; {five.how}; density, {steps} steps", "stated", ask)

    def _ask(self, question: Question) -> Answer:
        return unstuck(self._workload, question, seed=self._seed)

    def _compare(
        self,
        name: str,
        question: Question,
        right: Callable[[Answer], bool],
        ways: Iterable[Way],
        *ladders: Iterable[Way],
    ) -> list[list[object]]:
        """Try all ways, and of each ladder until one is right; let the best of each grade take turns with us."""
        tried = [(way, *_timed(way)) for way in ways]
        for ladder in ladders:
            tried += _climb(ladder, right)
        best: dict[str, Way] = {}
        for way, answer, _ in sorted(tried, key=lambda entry: entry[2]):
            if way.grade in GRADES and right(answer):
                best.setdefault(way.grade, way)
            if way.grade == "stated" and right(answer):
                self._chosen.setdefault((name, way.who), way)
        ours = self._ask(question)
        contestants = {"ours": lambda: self._ask(question)} | {grade: way.ask for grade, way in best.items()}
        turns = take_turns(contestants, rounds=ROUNDS[self._workload.key])
        where = [self._workload.key, self._seed]
        rows = [[*where, "unstuck", "", "stated", ours.products, turns["ours"].median, right(ours), ""]]
        for way, answer, seconds in tried:
            ratio = turns[way.grade].over(turns["ours"]) if best.get(way.grade) is way else ""
            rows.append([*where, way.who, way.how, way.grade, answer.products, seconds, right(answer), ratio])
        return rows


def densities(workload: Workload) -> list[list[object]]:
    """How near to the truth, and how many products peers need to be as near as we are."""
    real = known(workload)
    questions = {"all of the above": ALL, "lambda_min to 1 % too": Question(top=5, negative_to=0.01)}
    rows: list[list[object]] = []
    for how, question in questions.items():
        ours = _density(lambda seed, question=question: unstuck(workload, question, seed=seed), real)
        rows.append([workload.key, "unstuck", how, *ours, 1.0])
        for peer, name in (
            (PyHessian, "PyHessian"),
            (Eigenthings, "hessian-eigenthings"),
            (Curvlinops, "curvlinops"),
        ):
            rows.append(_reach(peer, name, workload, real, ours))
    return rows


def known(workload: Workload) -> Truth:
    """Look up the truth; how the data are cut does not change it."""
    return truth(next(other for other in workloads() if other.key == workload.key[0]))


def _reach(peer: type, name: str, workload: Workload, real: Truth, ours: tuple) -> list[object]:
    """Find the fewest products that bring a peer as near as we are."""
    contestants = [peer(workload, seed=seed) for seed in range(3)]
    nearest: tuple = (0, 0.0, math.inf)
    for steps, runs in sorted(((s, r) for s in STEPS for r in RUNS), key=math.prod):
        found = _density(lambda seed, s=steps, r=runs: contestants[seed].density(s, r), real)
        if found[2] < nearest[2]:
            nearest, how = found, f"{steps} steps x {runs}"
        if nearest[2] <= ours[2] or found[1] > 40 * ours[1]:
            break
    reached = "" if nearest[2] <= ours[2] else ", does not get there"
    return [workload.key, name, how + reached, *nearest, nearest[1] / ours[1]]


def _density(ask: Callable[[int], Answer], real: Truth) -> tuple[float, float, float]:
    """Give the median products, CPU seconds and distance over three starts."""
    answers: list[Answer] = []
    seconds = [cpu(lambda seed=seed: answers.append(ask(seed))) for seed in range(3)]
    distances = [
        wasserstein_distance(answer.nodes, real.values, answer.weights) / real.values[-1]
        for answer in answers
    ]
    return median(answer.products for answer in answers), median(seconds), median(distances)


def _climb(ladder: Iterable[Way], right: Callable[[Answer], bool]) -> list[tuple[Way, Answer, float]]:
    """Ask in turn until an answer is right, and keep that one; and what is asked by default."""
    kept: list[tuple[Way, Answer, float]] = []
    done = False
    for way in ladder:
        if done and way.grade != "default":
            continue
        answer, seconds = _timed(way)
        if (not done and right(answer)) or way.grade == "default":
            kept.append((way, answer, seconds))
        done = done or right(answer)
    return kept


def _timed(way: Way) -> tuple[Answer, float]:
    found: list[Answer] = []
    seconds = cpu(lambda: found.append(way.ask()))
    return found[0], seconds
