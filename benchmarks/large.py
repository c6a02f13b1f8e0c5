"""A verdict on a GPT-2 of 124 million parameters, on its last layer, and all its layers in turn, on one machine.

The weights are random, as at the start of a training, so nothing is downloaded; the text is what Python's own
modules say about themselves, a token a byte. Each runs in a process of its own, whose peak of memory is
its own; torchvision, which PyHessian brings, is hidden there, since a build for another PyTorch would break the
import of transformers. `UNSTUCK_BENCH_LAYERS`, `_WIDTH` and `_BUDGET` make it smaller.
"""

import json
import multiprocessing
import os
import resource
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.tables import Table

LAYERS = int(os.environ.get("UNSTUCK_BENCH_LAYERS", "12"))
WIDTH = int(os.environ.get("UNSTUCK_BENCH_WIDTH", "768"))
BUDGET = float(os.environ.get("UNSTUCK_BENCH_BUDGET", "600"))
BATCHES, ROWS, TOKENS = 4, 2, 64
MEMORY = 12e9  # bytes it may use beyond what is in use; the machine is shared

_SPOKEN = (json, multiprocessing, os, resource, time)


def run() -> list[Table]:
    """Ask each in a fresh process."""
    last = (f"h.{LAYERS - 1}.*",)
    asked = (
        ("GPT-2 with random weights", diagnose, ()),
        (f"Its last layer alone: --only '{last[0]}'", diagnose, (last,)),
        ("Every layer by itself: unstuck spectrum --blocks", blocks, ()),
    )
    context = multiprocessing.get_context("spawn")
    tables: list[Table] = []
    for title, question, arguments in asked:
        with context.Pool(1) as pool:
            tables.append(Table(title, ("what", "measured"), pool.apply(question, arguments)))
    return tables


def diagnose(only: tuple[str, ...] = ()) -> list[tuple[str, object]]:
    """Build the training, ask for its verdict, and tell what that took."""
    from unstuck import diagnose as ask

    torch.set_num_threads(1)
    training = language_model()
    before, begun, cpu = _peak(), time.monotonic(), time.process_time()
    told: list[tuple[str, float]] = []
    found = ask(
        training,
        budget=BUDGET,
        memory=MEMORY,
        trials=False,
        only=only,
        progress=lambda stage, _: _note(told, stage),
    )
    seconds = time.monotonic() - begun
    measured, cost = found.verdict.measured, found.verdict.cost
    spectrum = measured.spectrum
    stages = [(f"until: {stage}", f"{at - begun:.0f} s") for stage, at in told]
    return [
        ("parameters", measured.subject.parameters),
        ("batches x rows x tokens", f"{measured.sample.batches} x {ROWS} x {TOKENS}"),
        ("budget, s", BUDGET),
        ("seconds (CPU)", f"{seconds:.0f} ({time.process_time() - cpu:.0f})"),
        ("peak resident GB (before)", f"{_peak():.2f} ({before:.2f})"),
        ("gradients / products / engine", f"{cost.gradients:.0f} / {cost.products} / {cost.engine}"),
        ("cause, confidence", f"{found.cause.value if found.cause else 'none'}, {found.confidence:.2f}"),
        ("point", found.point.kind.value),
        ("loss", measured.loss.value),
        (
            "lambda_min, lambda_max",
            f"{spectrum.lambda_min:.3g}, {spectrum.lambda_max:.3g}" if spectrum else "",
        ),
        ("complete", measured.complete),
        *stages,
    ]


def blocks() -> list[tuple[str, object]]:
    """Ask for both ends of the spectrum of every layer, and tell what that took."""
    from unstuck import spectrum

    torch.set_num_threads(1)
    training = language_model()
    before, begun, cpu = _peak(), time.monotonic(), time.process_time()
    found = spectrum(training, top=1, budget=BUDGET, memory=MEMORY, blocks=True)
    seconds = time.monotonic() - begun
    bending = found.bending
    return [
        ("budget, s", BUDGET),
        ("seconds (CPU)", f"{seconds:.0f} ({time.process_time() - cpu:.0f})"),
        ("peak resident GB (before)", f"{_peak():.2f} ({before:.2f})"),
        *((block.name, _ends(block)) for block in bending.blocks),
    ]


def _ends(block: Any) -> str:
    low, high = block.lambda_min, block.lambda_max
    settled = "settled" if block.settled else "not settled"
    return (
        f"{low.value:.3g} ± {low.stderr:.1g} to {high.value:.3g} ± {high.stderr:.1g}; {block.parameters:,} "
        f"parameters, {block.products} products, {settled}"
    )


def language_model() -> Any:
    """Build the training: model, loss, a list of batches, AdamW."""
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    from transformers import GPT2Config, GPT2LMHeadModel

    from unstuck import Training

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(n_layer=LAYERS, n_embd=WIDTH, n_head=WIDTH // 64))
    model.eval()
    text = "".join(module.__doc__ or "" for module in _SPOKEN).encode() * 40
    count = BATCHES * ROWS * TOKENS
    if len(text) < count:
        msg = f"the documentation gives {len(text)} bytes, {count} are needed"
        raise ValueError(msg)
    tokens = torch.tensor(list(text[:count]), dtype=torch.int64).view(BATCHES, ROWS, TOKENS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    return Training(model, _loss, list(tokens), optimizer)


def _loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, labels=tokens).loss


def _note(told: list[tuple[str, float]], stage: str) -> None:
    if not told or told[-1][0] != stage:
        told.append((stage, time.monotonic()))


def _peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9
