"""What each of several processes does in the tests: objectives, vectors and decisions, written down as JSON."""

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from unstuck import Training, journal, processes, sharpness, spectrum, supervised, surface
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import spectrum as eigenvalues
from unstuck.curvature.vectors import Operator
from unstuck.errors import TrainingError, UnstuckError
from unstuck.landscape.ground import Ground, limits_of, sampled
from unstuck.landscape.paths import Trajectory, path_frame
from unstuck.landscape.planes import random_frame
from unstuck.measurements.optimizer.steps import Twin
from unstuck.objective import Objective, draw
from unstuck.objective.shards import local
from unstuck.objective.whole import by_names, whole
from unstuck.target import load_checkpoint
from unstuck.target.advance import advance
from unstuck.trials.onward import walked

LOSS = supervised(nn.CrossEntropyLoss())
PART = ("2.*", "0.bias")
LAST = ("4.bias",)  # so few that the time does not matter


def training(division: str, dtype: torch.dtype) -> Training:
    """A small perceptron, some steps of Adam from its beginning, whose examples lie in shards."""
    torch.manual_seed(0)
    number, of = processes.rank(), processes.count()
    model: Any = nn.Sequential(nn.Linear(20, 33), nn.Tanh(), nn.Linear(33, 17), nn.Tanh(), nn.Linear(17, 5))
    model = model.to(dtype)
    inputs, targets = torch.randn(252, 20, dtype=dtype), torch.randint(0, 5, (252,))
    pairs = zip(inputs.split(63), targets.split(63), strict=True)
    data = [(some[number::of], labels[number::of]) for some, labels in pairs]
    if division == "fully_shard":
        fully_shard(model[0])
        fully_shard(model)
    if division == "replicas of shards":
        fully_shard(model, mesh=init_device_mesh("cpu", (of, 1), mesh_dim_names=("copies", "shards")))
    if division == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-3)
    for batch in data * 2:
        optimizer.zero_grad()
        # Shards of uneven size: each counts by its examples, as the mean over the whole batch has it.
        total = float(processes.total(torch.tensor(float(len(batch[1])))))
        (LOSS(model, batch) * (len(batch[1]) * of / total)).backward()
        for parameter in model.parameters() if division == "replicas" else ():
            processes.total(parameter.grad).div_(of)
        optimizer.step()
    return Training(model, LOSS, data, optimizer)


def numbers(division: str, dtype: torch.dtype, among: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a training, or a part of it, gives, and whether it is as it was afterwards."""
    made = training(division, dtype)
    before = [local(p.detach()).clone() for p in made.model.parameters()]
    slopes = [None if p.grad is None else p.grad for p in made.model.parameters()]
    drawn = draw(made.data, seed=0, enough=lambda *_: False)
    objective = Objective(made, drawn.batches, among=among)
    space, theta = objective.space, objective.theta
    value, gradient = objective.value_and_gradient(theta)
    assert made.optimizer is not None
    moved = Twin(objective, made.optimizer).step([0])
    vector = space.draw(torch.Generator().manual_seed(1)).to(theta)
    with objective.products(theta) as products:
        operator = Operator(products, space.size, theta, products.noise, space.reduce, space.draw)
        image = products(vector)
        found = eigenvalues(operator, Question(top=1, negative_to=1e-7), torch.Generator().manual_seed(2))
        engine = products.engine
    after = [local(p.detach()) for p in made.model.parameters()]
    same = all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    grads = all(p.grad is old for p, old in zip(made.model.parameters(), slopes, strict=True))
    return {
        "examples": drawn.examples,
        "whole": drawn.exhausted,
        "value": value,
        "values": objective.values(theta),
        "length": space.norm(theta),
        "slope": space.norm(gradient),
        "moved": space.norm(moved),
        "bend": space.dot(image, vector),
        "image": space.norm(image),
        "quotients": objective.quotients(theta, vector),
        "lambda_min": found.spectrum.lambda_min,
        "lambda_max": found.spectrum.lambda_max,
        "engine": engine,
        "held": theta.numel(),
        "untouched": processes.every(true=same and grads),
    }


def looks(division: str) -> dict[str, float]:
    """What `spectrum`, `sharpness` and `surface` say of the last biases."""
    made = training(division, torch.float64)
    bent = spectrum(made, top=1, only=LAST, budget=120.0).bending
    # Of a divided model, whose evaluations are slow here, what is measured first is enough.
    sharp = sharpness(made, only=LAST, budget=1.0 if division == "fully_shard" else 120.0).measures
    hessian, metric = bent.spreads
    return {
        **_planes(made),
        "loss": bent.loss.value,
        "gradient": bent.gradient,
        "lambda_min": hessian.lowest[0].value,
        "lambda_max": hessian.highest[0].value,
        "judged": hessian.judged_highest.value,
        "in the metric": metric.highest[0].value,
        "sam": sharp["sam"].value.value,
        **({} if division == "fully_shard" else {"asam": sharp["asam_steps"].value.value, **_heights(made)}),
    }


def _heights(made: Training) -> dict[str, float | None]:
    """The loss at four places that every grid has, half way to the corners."""
    plane = surface(made, along="hessian", only=LAST, budget=3.0).view.planes[0]
    quarter = (len(plane.xs) - 1) // 4
    places = [(x * quarter, y * quarter) for x in (1, 3) for y in (1, 3)]
    return {f"height {x // quarter} {y // quarter}": plane.training[y][x] for x, y in places}


def _planes(made: Training) -> dict[str, float]:
    """Where a copy gets to in six steps, on the plane that they span; and a place on a random plane."""
    limits = limits_of(60.0, None, 0)
    drawn, sample = sampled(made, limits, gradients=1.0)
    ground = Ground(made, drawn, sample, limits, precise=False)
    places = walked(made, drawn.batches, steps=6, every=1, ledger=ground.ledger, over=lambda: False)
    _, path = path_frame(ground, Trajectory("copy", tuple(range(len(places))), places))
    names = ("across", "up", "aside", "loss there")
    last = dict(zip(names, (path.xs[-1], path.ys[-1], path.aside[-1], path.losses[-1]), strict=True))
    frame = random_frame(ground, made.model)
    height = ground.judge.judged(ground.judge.look(frame.at(ground.theta, 0.5, -0.3)))
    return {**last, "away": path.apart, "share": path.shares[0], "cosine": frame.cosine, "random": height}


def recalled(division: str, folder: Path) -> dict[str, Any]:
    """What is evaluated again where a journal is kept, of which one process has lost a part."""
    made = training(division, torch.float64)
    drawn = draw(made.data, seed=0, enough=lambda *_: False)
    gradients: list[torch.Tensor] = []
    counts: list[int] = []
    for lost in (False, False, True):
        with journal.kept(folder) as kept:
            assert kept is not None
            if lost and processes.rank() == 1:
                next(kept.folder.glob("*.safetensors")).unlink()
            objective = Objective(made, drawn.batches)
            evaluated = _counting(objective.replay)
            gradients.append(objective.gradient(objective.theta))
            counts.append(len(evaluated))
    return {"counts": counts, "same": all(torch.equal(gradients[0], other) for other in gradients)}


def _counting(replay: Any) -> list[Any]:
    evaluate, evaluated = replay.gradient, []

    def counted(batch: Any, theta: torch.Tensor) -> Any:
        evaluated.append(batch)
        return evaluate(batch, theta)

    replay.gradient = counted
    return evaluated


def decisions() -> dict[str, Any]:
    """What is the same everywhere though it begins otherwise, and what fails everywhere that fails once."""
    number = processes.rank()
    said: list[str] = []
    for task in (lambda: _fails_in(1), lambda: processes.once(lambda: _fails_in(0))):
        try:
            processes.together(task)
        except UnstuckError as error:
            said.append(str(error))
    uneven = [torch.full((2, 1), float(number))] * (2 + number)
    drawn = draw(uneven, seed=0, enough=lambda *_: False)
    with processes.alone():
        own = processes.count(), processes.agreed(float(number))
    return {
        "clock": processes.clock(),
        "agreed": processes.agreed(float(number)),
        "least": processes.least(-float(number)),
        "once": processes.once(lambda: number),
        "own": own,
        "said": said,
        "batches": [(batch.examples, batch.here) for batch in drawn.batches],
    }


def advanced(division: str, file: Path) -> dict[str, Any]:
    """Some steps, a checkpoint of them, and whether a training that has loaded it stands where this one does."""
    made, fresh = (_trimmed(training(division, torch.float64)) for _ in range(2))
    assert made.optimizer is not None
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(made.optimizer, patience=0, threshold=0.5)
    advance(replace(made, scheduler=plateau), 9)
    state = whole({"model": made.model.state_dict(), "optimizer": made.optimizer.state_dict()})
    state["optimizer"] = by_names(state["optimizer"], made.optimizer, made.model)
    if processes.rank() == 0:
        torch.save(state, file)
    processes.shared(None)
    loaded = load_checkpoint(fresh, file)
    return {
        "loaded": loaded,
        "same": processes.every(true=all(map(torch.equal, _here(made), _here(fresh)))),
        "rate": made.optimizer.param_groups[0]["lr"],
        "length": math.sqrt(sum(float(v.square().sum()) for v in state["model"].values())),
        "moments": [float(held["exp_avg_sq"].sum()) for held in state["optimizer"]["state"].values()],
    }


def _trimmed(made: Training) -> Training:
    """With as many examples in each process, which count alike as in `DistributedDataParallel`."""
    each = 62 // processes.count()
    return Training(
        made.model,
        made.loss,
        [(inputs[:each], labels[:each]) for inputs, labels in made.data],
        made.optimizer,
        clip=0.05,
    )


def _here(made: Training) -> list[torch.Tensor]:
    """What this process holds of the weights and of their second moments."""
    assert made.optimizer is not None
    weights = list(made.model.parameters())
    moments = [made.optimizer.state[weight]["exp_avg_sq"] for weight in weights]
    return [local(tensor.detach()) for tensor in (*weights, *moments)]


def _fails_in(number: int) -> int:
    if processes.rank() == number:
        msg = "no good"
        raise TrainingError(msg)
    return number


def main() -> None:
    """Write everything down; each process its own file."""
    processes.join()
    divisions = ("ddp", "replicas", "fully_shard", "replicas of shards")
    found = {division: numbers(division, torch.float64) for division in divisions}
    found["float32"] = numbers("fully_shard", torch.float32)
    found["part"] = numbers("fully_shard", torch.float64, PART)
    own = Path(sys.argv[1]).with_name
    found |= {f"advanced, {each}": advanced(each, own(f"{each}.pt")) for each in divisions}
    found |= {f"looks, {division}": looks(division) for division in ("ddp", "fully_shard")}
    found["decisions"] = decisions()
    journal._QUICK = 0.0  # what these small models take counts as long
    folder = own("kept")
    found |= {
        f"recalled, {division}": recalled(division, folder / division) for division in ("ddp", "fully_shard")
    }
    Path(f"{sys.argv[1]}{processes.rank()}").write_text(json.dumps(found))
    processes.leave()
    os._exit(0)  # a thread of the backend that is still ending would abort the interpreter's own end


if __name__ == "__main__":
    main()
