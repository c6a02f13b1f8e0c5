"""What a step costs beside torch.optim, by `python benchmarks/optim.py [--large]`.

Prints, for each model, the time of one step as a multiple of PyTorch's default (`foreach` and `fused` left out), the
median over rounds in which all take turns: unordered timing misleads by as much as three times.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from unstuck import optim

# Tensors, and elements of each: narrow and wide layers with their biases, as models have them.
MODELS = {
    "10 tensors, 1e4": [(40, 40), (40,)] * 5 + [(500,)] * 4,
    "60 tensors, 6e5": [(140, 140), (140,)] * 30,
    "144 tensors, 2e6": [(172, 172), (172,)] * 72,
    "500 tensors, 1e6": [(63, 63), (63,)] * 250,
    "20 tensors, 1e7": [(1000, 1000), (1000,)] * 10,
}
LARGE = {"100 tensors, 1e8": [(1414, 1414), (1414,)] * 50}
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
SECONDS = 1.5  # a method and model


def parameters(shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    return params


def steppers(method: str, shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], object]]:
    rule, theirs, options = METHODS[method]
    made: dict[str, torch.optim.Optimizer] = {
        "default": theirs(parameters(shapes), lr=1e-4, **options),
        "foreach": theirs(parameters(shapes), lr=1e-4, foreach=True, **options),
        "ours": optim.Optimizer(parameters(shapes), rule, lr=1e-4),
    }
    if method in FUSED:
        made["fused"] = theirs(parameters(shapes), lr=1e-4, fused=True, **options)
        made["ours fused"] = optim.Optimizer(parameters(shapes), rule, lr=1e-4, fused=True)
    return {name: optimizer.step for name, optimizer in made.items()}


def medians(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
        step()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times["ours"]) < 5:
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(of) for name, of in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="a model of 1e8 parameters too, which takes 8 GB"
    )
    models = {**MODELS, **(LARGE if parser.parse_args().large else {})}
    print(f"{'':28}{'default':>10}{'foreach':>9}{'ours':>9}{'fused':>9}{'ours fused':>12}{'ours/best':>11}")
    best, against_fused = [], []
    for model, shapes in models.items():
        for method in METHODS:
            median = medians(steppers(method, shapes))
            default = median["default"]
            ratio = median["ours"] / min(default, median["foreach"])
            best.append(ratio)
            row = f"{model:17} {method:10}{default * 1e3:7.2f} ms{median['foreach'] / default:9.2f}"
            row += f"{median['ours'] / default:9.2f}"
            if method in FUSED:
                against_fused.append(median["ours fused"] / median["fused"])
                row += f"{median['fused'] / default:9.2f}{median['ours fused'] / default:12.2f}"
            print(f"{row:77}{ratio:11.2f}", flush=True)
    print(f"ours / the better of default and foreach, median: {statistics.median(best):.2f}")
    print(
        f"ours fused / fused, median: {statistics.median(against_fused):.2f}, most: {max(against_fused):.2f}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
