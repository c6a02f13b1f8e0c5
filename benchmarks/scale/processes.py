"""Two processes against one, on labelled trainings: the same cause, the same eigenvalues, the same trials.

`python -m benchmarks.scale.processes [--write] [NAMES]` starts itself by `torchrun`: with the data in shards and the
model in each process (DDP), and with the model divided too (FSDP2). Every batch is the same, half in either process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

import unstuck
from benchmarks.causes.catalogue import BY_NAME
from benchmarks.scale.dividing import divided, large
from benchmarks.tables import RESULTS, Table, versions
from unstuck import Training, processes
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator, random_unit
from unstuck.objective import Objective, draw

CASES = (
    "healthy-logistic-adagrad",
    "saddle-zero-autoencoder",
    "minimum-least-squares",
    "large-bouncing-logistic",
    "small-sgd-autoencoder",
    "ill-raw-wine",
    "noise-fours-of-digits",
    "vanishing-deep-sigmoids",
    "dead-after-a-step",
    "frozen-replaced-layers",
    "misfit-sigmoid-twice",
    "labels-other-table",
    "order-sorted-classes",
    "gap-wide-regression",
)
TRIED = ("saddle-zero-autoencoder", "small-sgd-autoencoder")
BUDGET, TRYING = 300.0, 300.0
# Products until an eigenvalue is known to a hundredth of what is compared.
CLOSE = Question(top=1, top_to=1e-7, negative_to=1e-7, max_products=400)
# Eigenvalues below this share of the largest are rounding: of float64, and of differences in float32.
LEAST = {"exact": 1e-11, "own": 1e-4}
# Of the model whose memory is measured, and vectors of its Lanczos run.
WIDTH, VECTORS = 1000, 40


def main() -> None:
    """Measure everything, print it, and with `--write` keep it."""
    if "--worker" in sys.argv:
        _work(*sys.argv[sys.argv.index("--worker") + 1 :])
        return
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(CASES)
    found = {mode: _started(mode, names) for mode in ("one", "ddp", "fsdp")}
    tables = [_causes(found, names), _eigenvalues(found, names), _trials(found, names), _memory(found)]
    text = "\n\n".join(map(str, tables))
    print(text)
    if "--write" in sys.argv:
        head = (
            f"# Two processes against one\n\n`python -m benchmarks.scale.processes --write`, "
            f"{datetime.now(UTC):%Y-%m-%d}; gloo on one machine of two cores, one thread a process.\n\n{versions()}"
        )
        (RESULTS / "scale-processes.md").write_text(f"{head}\n\n{text}", encoding="utf-8")


def _started(mode: str, names: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        start = [sys.executable, "-m"]
        if mode != "one":
            start += ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
        command = [*start, "benchmarks.scale.processes", "--worker", mode, str(out), *names]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S603
        return json.loads(out.read_text())


def _work(mode: str, out: str, *names: str) -> None:
    processes.join()
    found: dict[str, Any] = {"memory": _vectors(mode)}
    for name in names:
        found[name] = _case(mode, name)
        if processes.rank() == 0:
            Path(out).write_text(json.dumps(found), encoding="utf-8")
            print(mode, name, found[name], file=sys.stderr, flush=True)
    processes.leave()


def _training(mode: str, name: str) -> Training:
    training = BY_NAME[name].training(0)
    return training if mode == "one" else divided(training, model=mode == "fsdp")


def _case(mode: str, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    dtypes = {"one": (torch.float64, None), "ddp": (torch.float64,), "fsdp": (None,)}[mode]
    for dtype in dtypes:
        row["exact" if dtype else "own"] = _ends(_training(mode, name), dtype)
    began = time.monotonic()
    diagnosis = unstuck.diagnose(_training(mode, name), budget=BUDGET, trials=False)
    row |= {
        "seconds": time.monotonic() - began,
        "cause": None if diagnosis.cause is None else str(diagnosis.cause),
        "confidence": diagnosis.verdict.confidence,
        "left_out": [f"{each.name}: {each.reason}" for each in diagnosis.verdict.measured.omitted],
    }
    if name in TRIED:
        tried = unstuck.diagnose(_training(mode, name), budget=TRYING)
        row["trials"] = {
            f"{each.name}, {each.change}": (each.gain, each.low, each.high) for each in tried.remedies
        }
    return row


def _ends(training: Training, dtype: torch.dtype | None) -> tuple[float, float]:
    """Both ends of the spectrum over the whole of small data, or a good part of large ones."""
    drawn = draw(training.data, seed=0, enough=lambda batches, _: batches >= 64)
    objective = Objective(training, drawn.batches, dtype=dtype)
    space, theta = objective.space, objective.theta
    with objective.products(theta) as products:
        operator = Operator(products, space.size, theta, products.noise, space.reduce, space.draw)
        found = spectrum(operator, CLOSE, torch.Generator().manual_seed(0)).spectrum
    return found.lambda_min, found.lambda_max


def _vectors(mode: str) -> dict[str, float]:
    """Bytes of the vectors of a Lanczos run, counted and as the process grew by."""
    training = large(WIDTH)
    training = training if mode == "one" else divided(training, model=mode == "fsdp")
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    objective = Objective(training, drawn.batches)
    space, theta = objective.space, objective.theta
    gradients = [gradient for _, gradient in objective.batch_gradients(theta)]
    with objective.products(theta, memory=0.0) as products:
        operator = Operator(products, space.size, theta, products.noise, space.reduce, space.draw)
        start = random_unit(operator, torch.Generator().manual_seed(0))
        products(start)  # what a first product makes room for is no vector
        before = psutil.Process().memory_info().rss
        run = Lanczos(operator, start)
        for _ in range(VECTORS):
            run.step()
    grown = psutil.Process().memory_info().rss - before
    held = theta.nbytes * (len(run.basis) + len(gradients))
    return {"parameters": space.size, "counted": held, "grown": processes.agreed(float(grown))}


def _causes(found: dict[str, Any], names: list[str]) -> Table:
    rows = [
        (
            name,
            *(
                f"{found[mode][name]['cause']} {found[mode][name]['confidence']:.2f}"
                for mode in ("one", "ddp", "fsdp")
            ),
            *(f"{found[mode][name]['seconds']:.1f}" for mode in ("one", "ddp", "fsdp")),
        )
        for name in names
    ]
    same = {
        mode: sum(found[mode][n]["cause"] == found["one"][n]["cause"] for n in names)
        for mode in ("ddp", "fsdp")
    }
    note = (
        f"The cause with its confidence. The same as in one process: DDP {same['ddp']} of {len(names)}, FSDP2 "
        f"{same['fsdp']} of {len(names)}. Two processes share two cores "
        "with whatever else runs there: seconds are what gloo's latency costs on models of a millisecond a gradient."
    )
    columns = ("case", "one process", "DDP", "FSDP2", "s", "s DDP", "s FSDP2")
    return Table("Causes", columns, rows, note, keys=1)


def _eigenvalues(found: dict[str, Any], names: list[str]) -> Table:
    def off(mode: str, kind: str, name: str) -> list[str]:
        mine, theirs = found[mode][name][kind], found["one"][name][kind]
        radius, least = max(map(abs, theirs)), LEAST[kind]
        return [
            f"{abs(one - other) / abs(other):.1e}"
            if abs(other) > least * radius
            else f"{abs(one - other) / radius:.1e} of the largest"
            for one, other in zip(mine, theirs, strict=True)
        ]

    rows = []
    for name in names:
        low, high = found["one"][name]["exact"]
        rows.append(
            (name, f"{low:.4g}", f"{high:.4g}", *off("ddp", "exact", name), *off("fsdp", "own", name))
        )
    note = (
        "Relative differences from one process: of exact products in float64 (DDP), and of differences of gradients "
        "in the training's own type, mostly float32, against exact products in that type (FSDP2). An eigenvalue that "
        "rounding leaves nothing of has no scale of its own, and is compared on that of the largest. Across the "
        "kinks of ReLU a difference of gradients is no Hessian: two rows (dead-after-a-step, misfit-sigmoid-twice) "
        "are far off."
    )
    columns = ("case", "λ_min", "λ_max", "DDP λ_min", "DDP λ_max", "FSDP2 λ_min", "FSDP2 λ_max")
    return Table("Eigenvalues", columns, rows, note, keys=1)


def _trials(found: dict[str, Any], names: list[str]) -> Table:
    rows = [
        (name, change, *(_shown(found[mode][name]["trials"].get(change)) for mode in ("one", "ddp", "fsdp")))
        for name in names
        if name in TRIED
        for change in found["one"][name]["trials"]
    ]
    note = "The gain of each remedy that came to the proof, and its interval; a dash where another one did."
    return Table("Trials", ("case", "remedy", "one process", "DDP", "FSDP2"), rows, note)


def _shown(gain: list[float] | None) -> str:
    return "-" if gain is None else f"{gain[0]:.4f} ({gain[1]:.4f} to {gain[2]:.4f})"


def _memory(found: dict[str, Any]) -> Table:
    one = found["one"]["memory"]
    rows = [
        (
            mode,
            *(
                text
                for kind in ("counted", "grown")
                for text in (f"{each[kind] / 2**20:.0f}", f"{each[kind] / one[kind]:.2f}")
            ),
        )
        for mode, each in ((mode, found[mode]["memory"]) for mode in ("one", "ddp", "fsdp"))
    ]
    note = (
        f"A perceptron of {one['parameters']:,} parameters in float32: {VECTORS} steps of Lanczos and two gradients, "
        "of the first process. Counted are the vectors; grown is what the process grew by during the run."
    )
    columns = ("mode", "counted MiB", "of one", "grown MiB", "of one's")
    return Table("Memory of vectors", columns, rows, note, keys=1)


if __name__ == "__main__":
    main()
