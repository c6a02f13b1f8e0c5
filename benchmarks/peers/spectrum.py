"""Answers about the spectrum: products and CPU time against PyHessian, hessian-eigenthings and curvlinops.

What a row says: asked the same question about the same network and data, how many Hessian-vector products and how
much CPU time a contestant took, and whether the answer was right. The last column is what matters: the CPU time of
the best peer over ours, in turns of the same process, median and quartiles. Above 1 we are cheaper.

- Workloads: a is a tanh MLP (9 thousand parameters), b a conv net with BatchNorm and ReLU (60 thousand), c a
  transformer (200 thousand), each trained on 1797 digits, in eight batches; a* is a with all examples in one batch.
  PyHessian always has one batch, where it is fastest.
- Questions: is lambda_min negative, and surely so; the five largest eigenvalues to 1 %; the spectral density, by its
  Wasserstein distance to the truth over lambda_max; and all of it from one run.
- Everybody starts from the model and the batches: building an operator, keeping graphs, and our check that autograd
  is to be trusted are in the times.
- Grades: *stated*, the cheapest setting of those tried whose own error estimate or tolerance justifies the answer;
  *lucky*, the cheapest setting that happens to be right, which only who knows the truth could pick (PyHessian states
  no error, so all that it does is lucky); *default*, as it comes. We stop by ourselves, not knowing the truth.

`--workloads`, `--questions` and `--peers` ask some of it; with `--write` those rows are renewed, the others stay.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from benchmarks.oracle import Truth, truth
from benchmarks.peers import rivals
from benchmarks.peers.answers import DOUBT, Answer, Curvlinops, Eigenthings, PyHessian, Way, near, unstuck
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
QUESTIONS = ("sign", "five", "density", "all")
PEERS = {"hessian-eigenthings": Eigenthings, "curvlinops": Curvlinops, "PyHessian": PyHessian}
STEPS, RUNS = (12, 20, 30, 45, 80), (1, 2, 5, 10)  # of peers' densities

COLUMNS = ("workload", "seed", "contestant", "how", "grade", "products", "CPU s", "right", "best peer / ours")


def run(
    only: Sequence[str] | None = None,
    questions: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
) -> list[Table]:
    """Ask everybody everything, or some."""
    entered = [*workloads()[:1], merged(workloads()[0]), *workloads()[1:]]
    entered = [workload for workload in entered if only is None or workload.key in only]
    asked = [question for question in QUESTIONS if questions is None or question in questions]
    invited = [peer for peer in PEERS if peers is None or peer in peers]
    rows: dict[str, list[list[object]]] = {question: [] for question in QUESTIONS}
    with rivals.setting():
        for workload in entered:
            for seed in range(SEEDS[workload.key]):
                contest = Contest(workload, seed, invited)
                for question, ask in contest.questions.items():
                    if question in asked:
                        rows[question] += ask()
            if "density" in asked and workload.key in ("a", "a*"):
                rows["density"] += densities(workload, invited)
    return [
        Table("The sign of lambda_min, beyond doubt", COLUMNS, rows["sign"], keys=3),
        Table("The five largest eigenvalues to 1 %", COLUMNS, rows["five"], keys=3),
        Table(
            "Density: distance to the truth, over lambda_max",
            ("workload", "contestant", "how", "products", "CPU s", "distance", "CPU s over ours"),
            rows["density"],
            "Medians over three starts. Peers' fewest products, of the settings tried, that are as near as we are.",
        ),
        Table(
            "Sign, five largest and density together",
            COLUMNS,
            rows["all"],
            "Peers by a call for each, or, where lucky, all read from the raw quadrature of one density run.",
            keys=3,
        ),
    ]


def merged(workload: Workload) -> Workload:
    """Put all examples into one batch."""
    inputs, targets = (torch.cat(parts) for parts in zip(*workload.batches, strict=True))
    return dataclasses.replace(workload, key=f"{workload.key}*", batches=((inputs, targets),))


class Contest:
    """All questions on one workload from one seed."""

    def __init__(self, workload: Workload, seed: int, invited: Sequence[str]) -> None:
        self._workload, self._seed, self._real = workload, seed, known(workload)
        self._invited = invited
        self._eigenthings = Eigenthings(workload, seed=seed)
        self._curvlinops = Curvlinops(workload, seed=seed)
        self._pyhessian = PyHessian(workload, seed=seed)
        self._chosen: dict[tuple[str, str], Way] = {}

    @property
    def questions(self) -> dict[str, Callable[[], list[list[object]]]]:
        """What can be asked, in this order, since the last one builds on the answers to the first two."""
        return {"sign": self.sign, "five": self.five, "all": self.everything}

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
        known_ways = [name for name in peers if {("sign", name), ("five", name)} <= set(self._chosen)]
        ways = [self._separately(name, peers[name].density, steps) for name in known_ways]
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
        tried = [(way, *_timed(way)) for way in ways if way.who in self._invited]
        for ladder in ladders:
            tried += _climb((way for way in ladder if way.who in self._invited), right)
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


def densities(workload: Workload, invited: Sequence[str]) -> list[list[object]]:
    """How near to the truth, and how many products peers need to be as near as we are."""
    real = known(workload)
    questions = {"all of the above": ALL, "lambda_min to 1 % too": Question(top=5, negative_to=0.01)}
    rows: list[list[object]] = []
    for how, question in questions.items():
        ours = _density(lambda seed, question=question: unstuck(workload, question, seed=seed), real)
        rows.append([workload.key, "unstuck", how, *ours, 1.0])
        rows += [_reach(PEERS[name], name, workload, real, ours) for name in invited]
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
