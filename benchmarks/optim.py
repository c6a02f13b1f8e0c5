"""What a step of `unstuck.optim` costs beside torch.optim: time and memory.

All contestants take turns in one process, on the same parameters and gradients; the ratio is the median of that of
each turn to the one beside it. Memory is what the resident size of a fresh process grows by at most during a step,
over what parameters, gradients and state take already.
"""

import ctypes
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.tables import Table
from benchmarks.timing import cpu, take_turns
from unstuck import optim

# Tensors, and elements of each: narrow and wide layers with their biases, as models have them.
MODELS = {
    "10 tensors, 1e4": [(40, 40), (40,)] * 5,
    "100 tensors, 1e5": [(44, 44), (44,)] * 50,
    "60 tensors, 6e5": [(140, 140), (140,)] * 30,
    "500 tensors, 1e6": [(63, 63), (63,)] * 250,
    "144 tensors, 2e6": [(172, 172), (172,)] * 72,
    "10 tensors, 1e7": [(1414, 1414), (1414,)] * 5,
    "20 tensors, 1e7": [(1000, 1000), (1000,)] * 10,
    "500 tensors, 1e7": [(200, 200), (200,)] * 250,
    "100 tensors, 1e8": [(1414, 1414), (1414,)] * 50,
}
METHODS = {
    "momentum": (optim.momentum(), torch.optim.SGD, {"momentum": 0.9}),
    "adagrad": (optim.adagrad(), torch.optim.Adagrad, {}),
    "rmsprop": (optim.rmsprop(), torch.optim.RMSprop, {}),
    "adam": (optim.adam(), torch.optim.Adam, {}),
    "adamw": (optim.adamw(), torch.optim.AdamW, {}),
    "nadam": (optim.nadam(), torch.optim.NAdam, {}),
    "radam": (optim.radam(), torch.optim.RAdam, {}),
}
FUSED = {"momentum", "adagrad", "adam", "adamw"}
COMPILED = ("10 tensors, 1e4", "60 tensors, 6e5", "20 tensors, 1e7")
REMEMBERED = ("20 tensors, 1e7", "100 tensors, 1e8")
ROUNDS = 15
LONG, FEW = 0.1, 5  # a step that takes so many seconds, and its rounds

Steps = dict[str, Callable[[], object]]


def run() -> list[Table]:
    """Measure time, memory, and what compiling would give."""
    return [_times(), _memory(), _compiled()]


def parameters(shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Draw parameters that have gradients."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    return params


def steppers(method: str, shapes: Sequence[tuple[int, ...]], only: str | None = None) -> Steps:
    """Give the step of every contestant, or of one of them, all on the same parameters."""
    rule, theirs, options = METHODS[method]
    params = parameters(shapes)
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "default": lambda: theirs(params, lr=1e-4, **options),
        "foreach": lambda: theirs(params, lr=1e-4, foreach=True, **options),
        "ours": lambda: optim.Optimizer(params, rule, lr=1e-4),
    }
    if method in FUSED:
        makers["fused"] = lambda: theirs(params, lr=1e-4, fused=True, **options)
        makers["ours fused"] = lambda: optim.Optimizer(params, rule, lr=1e-4, fused=True)
    return {name: make().step for name, make in makers.items() if only in (None, name)}


def _times() -> Table:
    rows: list[list[object]] = []
    for model, shapes in MODELS.items():
        for method in METHODS:
            steps = steppers(method, shapes)
            for step in steps.values():  # the first makes the state
                step()
            turns = take_turns(steps, rounds=FEW if cpu(steps["default"]) > LONG else ROUNDS)
            over = {name: turn.over(turns["default"]).median for name, turn in turns.items()}
            best = min(over["default"], over["foreach"])
            fused = [over.get("fused"), over.get("ours fused")]
            dispatched = turns["ours fused"].over(turns["fused"]).median if method in FUSED else None
            milliseconds = 1e3 * turns["default"].median
            row = [model, method, milliseconds, over["foreach"], over["ours"], over["ours"] / best]
            rows.append([*row, *fused, dispatched])
    columns = ("model", "method", "ms, default", "foreach", "ours", "ours / better", "fused", "ours fused")
    best = [float(str(row[5])) for row in rows]
    fused = [float(str(row[8])) for row in rows if row[8] is not None]
    note = (
        "Multiples of PyTorch's default; `better` is the better of default and foreach. Asked for: at most 1.00 in "
        f"the median, 1.2 of fused. Reached: {median(best):.2f} in the median, at most {max(best):.2f}; "
        f"{median(fused):.2f} of fused in the median, at most {max(fused):.2f}."
    )
    return Table("Time of a step", (*columns, "ours fused / fused"), rows, note)


def _memory() -> Table:
    names = ("default", "foreach", "ours", "fused", "ours fused")
    context = multiprocessing.get_context("spawn")
    rows: list[list[object]] = []
    for model in REMEMBERED:
        for method in ("momentum", "adagrad", "rmsprop", "adam"):
            row: list[object] = [model, method]
            for name in names:
                if "fused" in name and method not in FUSED:
                    row.append(None)
                    continue
                with context.Pool(1) as pool:
                    row.append(pool.apply(grown, (method, model, name)))
            rows.append(row)
    note = "MB over parameters, gradients and state, which are of the same size for all."
    return Table("Memory of a step", ("model", "method", *names), rows, note)


def grown(method: str, model: str, name: str) -> float:
    """Give the MB that this process grows by at most in a step."""
    torch.set_num_threads(1)
    step = steppers(method, MODELS[model], name)[name]
    step()
    step()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier steps have freed is to count when it is taken again
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins the highest mark anew; Linux alone has it
    step()
    return round((_resident("VmHWM") - before) / 1e3, 1)


def _resident(mark: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(mark))


def _compiled() -> Table:
    rows: list[list[object]] = []
    for model in COMPILED:
        steps = steppers("adam", MODELS[model])
        step = torch.compile(steppers("adam", MODELS[model], "default")["default"])
        first = cpu(step)
        steps = {
            "default": steps["default"],
            "compiled": step,
            "ours": steps["ours"],
            "fused": steps["ours fused"],
        }
        for each in steps.values():
            each()
            each()
        turns = take_turns(steps, rounds=ROUNDS)
        over = [turn.over(turns["default"]).median for name, turn in turns.items() if name != "default"]
        rows.append([model, "adam", 1e3 * turns["default"].median, first, *over])
    columns = ("model", "method", "ms, default", "seconds to compile", "compiled", "ours", "ours fused")
    note = "PyTorch's Adam by `torch.compile(optimizer.step)`, as multiples of the default."
    return Table("What compiling would give", columns, rows, note)
