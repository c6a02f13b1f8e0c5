"""What a verdict costs against the number of parameters and of examples, with fitted exponents.

`python -m benchmarks.scale.cost [--write] [--huge] [--keep FILE]`: what is in FILE is not measured again. Each
verdict in a process of its own, whose peak of memory is its own, on one thread. Networks with two hidden layers of
tanh read digits, after 50 updates of Adam.
"""

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import exp, fsum, log, sqrt
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import unstuck
from benchmarks.tables import RESULTS, Table, versions
from benchmarks.workloads import batches, perceptron
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.objective import Objective, draw

SIZES, HUGE = (1e4, 1e5, 1e6, 1e7), 1e8
LARGE = 1e7  # from which on one seed must do: a minute of CPU each, and then ten
DOUBLE = 1e6  # up to which Lanczos's method is also run in float64
EXAMPLES = tuple(2**power for power in range(9, 17))
SEEDS = (0, 1)
SAMPLE, BATCH, UPDATES, RATE = 256, 64, 50, 1e-3
# The first is more than any of these verdicts takes; the second is what there is for any number of examples.
AMPLE, BUDGET = 3600.0, 4.0
WIDEST = 1e4  # parameters of the network that is shown more and more examples
NOISE = (
    0.3  # of the pixels' deviation: there are 1,797 digits, and every further example is one of them, blurred
)

# As in the study of cost: the sign of the lowest eigenvalue, down to a hundredth of the largest, with 99 %.
QUESTION = Question(tolerance=1e-2, probability=0.99, negative_to=None, top=0)

# What the projection assumes: see its note.
PROJECTED, GPUS, FLOPS, SHARE, BANDWIDTH, TOKENS = 1e9, 64, 3.12e14, 0.4, 2.5e10, 2**19


@dataclass(frozen=True)
class Cost:
    """What one verdict took; seconds are of the CPU.

    Attributes:
        products: Until the sign of the lowest eigenvalue was settled.
        double: The same in float64; None where that was not tried.
    """

    parameters: int
    examples: int
    sample: int
    gradient: float
    seconds: float
    gradients: float
    curvature: float
    products: int
    double: int | None
    peak: int
    cause: str


def main() -> None:
    """Measure everything, print it, and with `--write` keep it."""
    sizes = (*SIZES, HUGE) if "--huge" in sys.argv else SIZES
    keep = Path(sys.argv[sys.argv.index("--keep") + 1]) if "--keep" in sys.argv else None
    small = [
        _apart(keep, (size, SAMPLE, AMPLE, seed))
        for size in sizes
        for seed in (SEEDS if size < LARGE else (0,))
    ]
    many = [_apart(keep, (WIDEST, count, BUDGET, 0)) for count in EXAMPLES]
    text = "\n\n".join(map(str, (_of_parameters(small), _of_examples(many), _projection(small))))
    print(text)
    if "--write" in sys.argv:
        summary, _, about = (__doc__ or "").partition("\n")
        head = f"# {summary}\n{about}\n{datetime.now(UTC):%Y-%m-%d}; {versions()}"
        (RESULTS / "scale-cost.md").write_text(f"{head}\n\n{text}", encoding="utf-8")


def _apart(keep: Path | None, asked: tuple[float, int, float, int]) -> Cost:
    """Measure in a process of its own, unless it was."""
    kept = keep.read_text(encoding="utf-8").splitlines() if keep and keep.exists() else []
    for question, answer in map(json.loads, kept):
        if tuple(question) == asked:
            return Cost(**answer)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_cost, asked)
    print(found, file=sys.stderr, flush=True)
    if keep:
        with keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps([asked, asdict(found)]) + "\n")
    return found


def _cost(size: float, examples: int, budget: float, seed: int) -> Cost:
    torch.set_num_threads(1)
    training = _training(size, examples, seed)
    drawn = draw(training.data, seed=0, enough=lambda _, count: count >= SAMPLE)
    objective = Objective(training, drawn.batches)
    gradient = _quickest(lambda: objective.gradient(objective.theta))
    begun = time.process_time()
    settled = _products_until_settled(objective, seed)
    curvature = time.process_time() - begun
    begun = time.process_time()
    found = unstuck.diagnose(training, budget=budget, trials=False)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    wide = Objective(training, drawn.batches, dtype=torch.float64) if size <= DOUBLE else None
    return Cost(
        parameters=objective.size,
        examples=examples,
        sample=found.verdict.measured.sample.examples,
        gradient=gradient,
        seconds=seconds,
        gradients=found.verdict.cost.gradients,
        curvature=curvature,
        products=settled,
        double=_products_until_settled(wide, seed) if wide else None,
        peak=peak,
        cause=str(found.cause) if found.cause else "none",
    )


def _products_until_settled(objective: Objective, seed: int) -> int:
    with objective.products(objective.theta) as products:
        operator = Operator(products, objective.size, objective.theta, noise=products.noise)
        return spectrum(operator, QUESTION, torch.Generator().manual_seed(seed)).spectrum.products


def _training(size: float, examples: int, seed: int) -> unstuck.Training:
    inner = 64 + 10 + 2
    width = round(0.5 * (sqrt(inner**2 + 4.0 * size) - inner))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = perceptron(64, width, width, 10)
        data = _data(examples)
    loss = unstuck.supervised(functional.cross_entropy)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for step in range(UPDATES):
        optimizer.zero_grad()
        loss(model, data[step % len(data)]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return unstuck.Training(model, loss, data, optimizer)


def _data(examples: int) -> list[tuple[Tensor, Tensor]]:
    pixels, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    places = torch.arange(examples) % len(labels)
    noise = NOISE * torch.randn(examples, pixels.shape[1]) * (torch.arange(examples) >= len(labels))[:, None]
    return list(zip((pixels[places] + noise).split(BATCH), labels[places].split(BATCH), strict=True))


def _quickest(evaluate: Callable[[], object]) -> float:
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < 50 and fsum(seconds) < 1.0):
        begun = time.process_time()
        evaluate()
        seconds.append(time.process_time() - begun)
    return sorted(seconds)[len(seconds) // 2]


def exponent(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Fit y = a x^b by least squares of the logarithms; gives b and its standard error."""
    x, y = [log(value) for value in xs], [log(value) for value in ys]
    middle, level = fsum(x) / len(x), fsum(y) / len(y)
    across = fsum((a - middle) ** 2 for a in x)
    slope = fsum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / across
    rest = fsum((b - level - slope * (a - middle)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, sqrt(rest / max(len(x) - 2, 1) / across)


def _by_decade(rows: Sequence[Cost], of: Callable[[Cost], int | None]) -> str:
    """How many are added where there are ten times as many parameters, by least squares."""
    pairs = [(log(row.parameters, 10), float(many)) for row in rows if (many := of(row)) is not None]
    middle, level = (fsum(column) / len(pairs) for column in zip(*pairs, strict=True))
    across = fsum((x - middle) ** 2 for x, _ in pairs)
    return f"{fsum((x - middle) * (y - level) for x, y in pairs) / across:.1f}"


def _fitted(rows: Sequence[Cost], of: Callable[[Cost], float], against: Callable[[Cost], float]) -> str:
    slope, error = exponent([against(row) for row in rows], [of(row) for row in rows])
    return f"{slope:+.3f} ± {error:.3f}"


def _of_parameters(rows: Sequence[Cost]) -> Table:
    def size(row: Cost) -> float:
        return float(row.parameters)

    shown: list[tuple[object, ...]] = [
        (
            f"{row.parameters:,}",
            f"{row.gradient:.2g}",
            f"{row.gradients:.0f}",
            f"{row.seconds:.3g}",
            f"{row.seconds / row.gradient:.0f}",
            f"{row.products}",
            "" if row.double is None else f"{row.double}",
            f"{row.curvature / row.gradient:.0f}",
            f"{row.peak / 1e6:.0f}",
            row.cause,
        )
        for row in rows
    ]
    fits = (
        lambda row: row.gradient,
        lambda row: row.gradients,
        lambda row: row.seconds,
        lambda row: row.seconds / row.gradient,
        lambda row: float(row.products),
        lambda row: row.curvature / row.gradient,
        lambda row: float(row.peak),
    )
    exponents = [_fitted(rows, fit, size) for fit in fits]
    exponents.insert(5, "")  # of products in float64 there are too few different numbers
    shown.append(("exponent", *exponents, ""))
    note = (
        f"{SAMPLE} examples, networks of two seeds, one of the largest. A gradient is one over all examples; "
        "`in gradients` is the "
        "CPU time of a verdict over that of a gradient: its exponent is what a verdict costs beyond linear. "
        "Small networks pay for Python, so that theirs is larger. The last of a row are Lanczos's method "
        "alone, for the sign of the lowest eigenvalue, and the peak of the whole process until then. A run that "
        "still learns is told by its ways down, before eigenvalues are asked for: these verdicts are of that kind. "
        f"The sign alone takes more products in larger networks, {_by_decade(rows, lambda row: row.products)} for "
        "every factor of ten: that is logarithmic, so that its exponent is none to go on with. It has two causes. "
        "A random start has 1/n of its square in any direction, and so have the first Ritz values that are negative: "
        "each product makes them two to six times as large. And a value counts as negative beyond three times the "
        "error that products may have, 1.2e-5 of the largest eigenvalue in float32. In float64, whose products "
        f"have none to speak of, {_by_decade(rows, lambda row: row.double)} are added by a factor of ten: that much "
        "is the spectrum's, the rest is what float32 leaves in doubt."
    )
    columns = (
        "parameters",
        "s of a gradient",
        "gradients",
        "s of a verdict",
        "in gradients",
        "products",
        "in float64",
        "sign of λ_min in gradients",
        "peak MB",
        "cause",
    )
    return Table("Against parameters", columns, shown, note, keys=1)


def _of_examples(rows: Sequence[Cost]) -> Table:
    shown: list[tuple[object, ...]] = [
        (
            f"{row.examples:,}",
            f"{row.sample:,}",
            f"{row.gradients:.0f}",
            f"{row.seconds:.3g}",
            f"{row.peak / 1e6:.0f}",
            row.cause,
        )
        for row in rows
    ]
    fits = (
        lambda row: float(row.sample),
        lambda row: row.gradients,
        lambda row: row.seconds,
        lambda row: row.peak,
    )
    for name, chosen in (
        ("exponent, all", rows),
        ("exponent, sampled", [r for r in rows if r.sample < r.examples]),
    ):
        if len(chosen) > 2:
            shown.append((name, *(_fitted(chosen, fit, lambda row: float(row.examples)) for fit in fits), ""))
    note = (
        f"A network of {WIDEST:,.0f} parameters and {BUDGET:.0f} s of budget, which chooses the sample; "
        "gradients are over the sample. `sampled`: where not all of the data are taken."
    )
    columns = ("examples", "of the sample", "gradients", "s of a verdict", "peak MB", "cause")
    return Table("Against examples", columns, shown, note, keys=1)


def _projection(rows: Sequence[Cost]) -> Table:
    """A verdict in gradients, times what a gradient costs where such models are trained."""
    largest = max(row.parameters for row in rows)
    taken = [row.seconds / row.gradient for row in rows if row.parameters == largest]
    gradients = exp(fsum(map(log, taken)) / len(taken))
    compute = 6.0 * PROJECTED * TOKENS / (GPUS * FLOPS * SHARE)
    traffic = 2.0 * 4.0 * PROJECTED / BANDWIDTH
    vectors = 4.0 * PROJECTED / GPUS
    note = (
        f"Not measured: {PROJECTED:.0e} parameters on {GPUS} GPUs that divide the model and the data. Assumed: "
        f"a verdict costs as many gradients as with {largest:,} parameters, the exponent being nil; a gradient "
        f"takes 6 operations a parameter and token over a sample of {TOKENS:,} tokens; a GPU makes {FLOPS:.2e} "
        f"operations a second (A100, bfloat16, as its maker says) of which {SHARE:.0%} are had, as in "
        "trainings of that size; each gradient is all-reduced once, 2 x 4 bytes a parameter at "
        f"{BANDWIDTH:.1e} bytes a second, and nothing of it overlaps; Lanczos's vectors are float32, in equal "
        "parts on all GPUs."
    )
    table = [
        ("gradients of a verdict", f"{gradients:.0f}"),
        ("s of a gradient: operations, traffic", f"{compute:.2f}, {traffic:.2f}"),
        ("s of a verdict", f"{gradients * (compute + traffic):.0f}"),
        ("MB of a vector, in each GPU", f"{vectors / 1e6:.0f}"),
        ("GB of 60 vectors, in each GPU", f"{60 * vectors / 1e9:.1f}"),
    ]
    return Table("Projected", ("what", "how much"), table, note, keys=1)


if __name__ == "__main__":
    main()
