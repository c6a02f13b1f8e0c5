"""A run that is watched: CPU time and numbers against Cockpit, which watches steps too.

Everybody trains the same networks on the same batches, in turns of one process; CPU time counts all threads, so that
of ours that writes to disk too. Our recorder does in every turn what it does in a run, and writes every step and its
samples to a store; it takes a sample (lengths of gradient, weights and update by layer, angles, signal and noise of
the gradient, rounding) as often as 0.5 % of the time pay for. Cockpit keeps what it sees in memory, at the steps that
it is told to. Looks at the live graph when a loss stands still are measured in recording.md.

- A step: `over ours` is the time of its step over that of ours, most of which is the training's own; what watching
  alone costs is a step's time less that of one that is not watched, in medians over the turns, which leaves the
  less of it, the more uncertain it is.
- Each sample: what one more sample costs beyond the step, over ours. Ours compares three steps.
- Numbers of one batch: the largest eigenvalue of the Hessian and its trace on one batch of 128 digits, from the model
  and the batch to the number, against float64; a, b and c as in the other tables, attention held to its plain kernel.
  Cockpit's power iteration says the largest in size, of either sign, and no error.

In columns `over ours`, above 1 we are cheaper.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import torch
from torch import Tensor

from benchmarks.peers.cockpits import Watched, still
from benchmarks.peers.invited import COCKPIT, present
from benchmarks.peers.landscapes import Curvature, plain_attention
from benchmarks.peers.recorded import habits
from benchmarks.recording import Case, cases
from benchmarks.tables import Table
from benchmarks.timing import cpu, take_turns
from benchmarks.workloads import Workload, workloads
from unstuck.curvature.records import Question, Spectrum
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.watching.hooks import attach
from unstuck.watching.samples import Sampler
from unstuck.watching.watch import Watch

ROUNDS = 15
STEPS = {"tiny": 100, "conv": 10, "tran": 10}  # of a turn, by the first letters of the training's name
SAMPLES = 20
EXAMPLES = 128
LENGTHS = ("Loss", "GradNorm", "UpdateSize")
WAYS: dict[str, tuple[tuple[str, ...] | str, int]] = {
    "loss, gradient norm, update size": (LENGTHS, 1),
    "the same and the norm test": ((*LENGTHS, "NormTest"), 1),
    "its economy configuration": ("economy", 1),
    "economy, every 100th step": ("economy", 100),
}
TOP = Question(tolerance=math.inf, negative_to=None, top=1)
TRACE = dataclasses.replace(TOP, probes=8)  # as `unstuck sharpness` asks for it


def run() -> list[Table]:
    """Watch all trainings."""
    if not present([COCKPIT], None):
        return []
    columns = (
        *("training", "contestant", "what", "ms a step", "over not watched", "over ours"),
        *("ms of watching", "watching over ours"),
    )
    with plain_attention():
        numbers = [row for workload in workloads() for row in _numbers(workload)]
    return [
        Table("A step", columns, [row for number in range(len(cases())) for row in _steps(number)], keys=3),
        Table(
            "Each sample",
            ("training", "ours, us", "Cockpit, us", "and norm test", "Cockpit over ours", "and norm test"),
            [row for number in range(len(cases())) for row in _samples(number)],
            keys=1,
        ),
        Table(
            "Numbers of one batch",
            ("workload", "number", "contestant", "how", "value", "stated error", "real error", "CPU s", "over ours"),
            numbers,
            "Errors are relative.",
            keys=4,
        ),
        habits(),
    ]  # fmt: skip


def _steps(number: int) -> list[list[object]]:
    """Time the steps of one training, watched by everybody."""
    case = cases()[number]
    count = next(steps for name, steps in STEPS.items() if case.name.startswith(name))
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch([], out=folder, share=0.0)

        def ours() -> None:
            detach = attach(watch.recorder, [case.optimizer])
            _repeat(case.step, count)
            detach()

        contestants: dict[str, Callable[[], None]] = {
            "plain": lambda: _repeat(case.step, count),
            "unstuck": ours,
        }
        for what, (quantities, interval) in WAYS.items():
            watched = _watched(number, quantities, interval)
            if watched is not None:
                contestants[what] = lambda watched=watched: _repeat(watched.step, count)
        turns = take_turns(contestants, rounds=ROUNDS)
        watch.close()
    rows: list[list[object]] = []
    watching = {
        name: 1e3 * _beyond(turn.seconds, turns["plain"].seconds) / count for name, turn in turns.items()
    }
    for name, turn in turns.items():
        if name != "plain":
            who, what = ("unstuck", "every step") if name == "unstuck" else (COCKPIT.name, name)
            ratio = "" if name == "unstuck" else turn.over(turns["unstuck"])
            times = _times(watching[name], watching["unstuck"]) if name != "unstuck" else ""
            own = 1e3 * turn.median / count
            rows.append([case.name, who, what, own, turn.over(turns["plain"]), ratio, watching[name], times])
    rows += [[case.name, COCKPIT.name, name, "raises", *4 * [""]] for name in WAYS if name not in contestants]
    return rows


def _times(theirs: float, ours: float) -> float | str:
    """How many times ours; nothing where ours is lost in the noise of the clock."""
    return theirs / ours if ours > 0.0 else "ours not seen"


def _beyond(some: Sequence[float], others: Sequence[float]) -> float:
    """The median of the differences, turn by turn."""
    return median(one - other for one, other in zip(some, others, strict=True))


def _repeat(step: Callable[[], None], count: int) -> None:
    for _ in range(count):
        step()


def _watched(number: int, quantities: tuple[str, ...] | str, interval: int) -> Watched | None:
    """Put a training under a Cockpit; None where it does not know a layer."""
    case = cases()[number]
    kind = type(case.optimizer)
    watched = Watched(
        case.model,
        lambda parameters: kind(parameters, lr=1e-3),
        case.batch,
        quantities,
        interval=interval,
    )
    try:
        watched.step()
        watched.step()
    except AttributeError:  # BackPACK has not put there what it does not know how to compute
        return None
    return watched


def _samples(number: int) -> Iterator[list[object]]:
    """Time what a sample costs beyond the steps that it is taken of."""
    case = cases()[number]
    plain = median(cpu(case.step) for _ in range(3 * SAMPLES))
    sampler = Sampler(case.optimizer, case.model)
    own = median(_sampled(case, sampler) for _ in range(SAMPLES))
    theirs = [_watched(number, names, 1) for names in (LENGTHS, (*LENGTHS, "NormTest"))]
    times = [
        None if watched is None else median(cpu(watched.step) for _ in range(3 * SAMPLES)) - plain
        for watched in theirs
    ]
    ratios = [None if time is None else time / own for time in times]
    shown = ["raises" if time is None else 1e6 * time for time in times]
    yield [case.name, 1e6 * own, *shown, *("" if ratio is None else ratio for ratio in ratios)]


def _sampled(case: Case, sampler: Sampler) -> float:
    """Take one sample of three steps; give the seconds beyond the steps themselves."""
    case.step()
    spent = cpu(sampler.after)
    spent += cpu(sampler.before)
    case.step()
    spent += cpu(sampler.after)
    case.step()
    return spent + cpu(sampler.after)


def _numbers(workload: Workload) -> Iterator[list[object]]:
    inputs, targets = (part[:EXAMPLES] for part in workload.batches[0])
    few = dataclasses.replace(workload, batches=((inputs, targets),))
    real = Curvature(few)
    truths = {"lambda_max": real.largest}
    if workload.key == "a":  # of the others Cockpit gives none, and a dense Hessian takes long
        truths["trace"] = real.trace()
    asked = {
        "lambda_max": (TOP, lambda found: (found.lambda_max, found.highest[0].residual), "HessMaxEV"),
        "trace": (TRACE, lambda found: (found.trace.value, found.trace.stderr), "HessTrace"),
    }
    for number, truth in truths.items():
        question, read, quantity = asked[number]
        ways: dict[tuple[str, str], Callable[[], tuple[float, float | None]]] = {
            ("unstuck", "Lanczos"): lambda question=question, read=read: read(_spectrum(few, question)),
            (COCKPIT.name, quantity): lambda quantity=quantity: _cockpit(few, quantity, {}),
        }
        if number == "trace":
            ways[COCKPIT.name, "HessTrace, Gauss-Newton, sampled"] = lambda: _cockpit(
                few, "HessTrace", {"curvature": "diag_ggn_mc"}
            )
        turns = take_turns({" ".join(name): ask for name, ask in ways.items()}, rounds=5)
        for name, ask in ways.items():
            value, error = ask()
            taken = turns[" ".join(name)]
            ratio = "" if name[0] == "unstuck" else taken.over(turns["unstuck Lanczos"])
            stated = "none" if error is None else abs(error / value)
            real_error = abs(value / truth - 1.0)
            yield [workload.key, number, *name, value, stated, real_error, taken.median, ratio]


def _spectrum(workload: Workload, question: Question) -> Spectrum:
    objective = workload.objective()
    with objective.products(objective.theta) as products:
        operator = Operator(products, objective.size, objective.theta, noise=products.noise)
        return spectrum(operator, question, torch.Generator().manual_seed(0)).spectrum


def _cockpit(workload: Workload, quantity: str, options: dict[str, str]) -> tuple[float, None]:
    def batch() -> tuple[Tensor, Tensor]:
        return workload.batches[0]

    watched = Watched(workload.model, still, batch, (quantity,), options={quantity: options})
    watched.step()
    found = watched.last(quantity)
    return float(sum(found) if isinstance(found, list) else found), None
