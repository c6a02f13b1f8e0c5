"""What a gradient and a product with the Hessian take where blocks are computed again, beside where they are not.

`python -m benchmarks.scale.checkpoints [--write] [--keep FILE]`: what is in FILE is not measured again. Each in a
process of its own, which gives freed memory back at once; the peak is what it grew by at most. CPU times, on one
thread. "PyTorch" is `torch.utils.checkpoint` around the same blocks. A gradient of GPT-2 needs more for its outputs
and its parameters than for its blocks.
"""

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import unstuck
from benchmarks.tables import RESULTS, Table, versions
from unstuck.objective import Objective, draw
from unstuck.objective.thrift import allowing

WAYS = ("kept", "computed again", "PyTorch")


class Checkpointed(nn.Module):
    """A block under PyTorch's own checkpoint."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Tensor, **kwargs: object) -> object:
        """As the block does."""
        return checkpoint(self.block, *args, use_reentrant=False, **kwargs)


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images x channels x height x width in and out."""
        return torch.relu(images + self.inner(images))


def language_model() -> tuple[nn.ModuleList, unstuck.Training]:
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config()).eval()
    tokens = torch.randint(50257, (2, 256))
    return model.transformer.h, unstuck.Training(model, _language_loss, [tokens])


def convolutional() -> tuple[nn.Sequential, unstuck.Training]:
    blocks = nn.Sequential(*(Residual(32) for _ in range(16)))
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
    return blocks, _classifies(model, torch.randn(32, 3, 32, 32))


def perceptron() -> tuple[nn.Sequential, unstuck.Training]:
    blocks = nn.Sequential(
        *(nn.Sequential(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.GELU()) for _ in range(24))
    )
    model = nn.Sequential(nn.Linear(64, 256), blocks, nn.Linear(256, 10))
    return blocks, _classifies(model, torch.randn(4096, 64))


NETWORKS: dict[str, Callable[[], tuple[nn.Sequential | nn.ModuleList, unstuck.Training]]] = {
    "GPT-2, 124 million parameters, 2 x 256 tokens": language_model,
    "16 residual blocks with BatchNorm, 32 images": convolutional,
    "24 dense layers with BatchNorm, 4,096 examples": perceptron,
}


def main() -> None:
    """Measure everything, print it, and with `--write` keep it."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # of the processes that are begun below
    rows = [(name, way, *_apart(name, way)) for name in NETWORKS for way in WAYS]
    columns = ("network", "blocks", "MB of a gradient", "s", "MB of a product", "s")
    text = str(Table("One gradient, and one product over no kept graph", columns, rows, keys=2))
    print(text)
    if "--write" in sys.argv:
        summary, _, about = (__doc__ or "").partition("\n")
        head = f"# {summary}\n{about}\n{datetime.now(UTC):%Y-%m-%d}; {versions()}"
        (RESULTS / "scale-checkpoints.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")


def _apart(name: str, way: str) -> tuple[str, ...]:
    """Measure in a process of its own, unless it was."""
    keep = Path(sys.argv[sys.argv.index("--keep") + 1]) if "--keep" in sys.argv else None
    kept = keep.read_text(encoding="utf-8").splitlines() if keep and keep.exists() else []
    for *asked, answer in map(json.loads, kept):
        if asked == [name, way]:
            return tuple(answer)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_measure, (name, way))
    if keep:
        with keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, way, found]) + "\n")
    return found


def _measure(name: str, way: str) -> tuple[str, str, str, str]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    blocks, training = NETWORKS[name]()
    if way == "PyTorch":
        for number, block in enumerate(blocks):
            blocks[number] = Checkpointed(block)
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    with allowing(1.0 if way == "computed again" else float("inf")):
        objective = Objective(training, drawn.batches)
    assert objective.differentiable_twice
    vector = torch.randn(objective.size, generator=torch.Generator().manual_seed(0))
    products = objective.products(objective.theta, memory=0.0)
    return *_grown(lambda: objective.gradient(objective.theta)), *_grown(lambda: products(vector))


def _grown(evaluate: Callable[[], object]) -> tuple[str, str]:
    """Give by how many MB the process grew meanwhile, and how long it took."""
    process, over, most = psutil.Process(), threading.Event(), 0

    def watch() -> None:
        nonlocal most
        while not over.wait(0.002):
            most = max(most, process.memory_info().rss)

    before, begun = process.memory_info().rss, time.process_time()
    watcher = threading.Thread(target=watch)
    watcher.start()
    evaluate()
    seconds = time.process_time() - begun
    over.set()
    watcher.join()
    return f"{(most - before) / 1e6:.0f}", f"{seconds:.2g}"


def _classifies(model: nn.Module, inputs: Tensor) -> unstuck.Training:
    targets = torch.randint(10, (len(inputs),))
    return unstuck.Training(model, unstuck.supervised(functional.cross_entropy), [(inputs, targets)])


def _language_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, labels=tokens).loss


if __name__ == "__main__":
    main()
