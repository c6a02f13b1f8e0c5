"""Every method is one formula: a schedule, a momentum that keeps directions, a scale that keeps magnitudes."""

from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import nn

from unstuck import optim
from unstuck.objective import Objective
from unstuck.report.figures.theme import UP
from unstuck.study.drawing import finished
from unstuck.study.judging import above, outcome, share
from unstuck.study.problems import batched, shuffled
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk

UPDATES, BATCH, HIDDEN, RATE = 200, 64, 16, 1e-2
ALL = 0.85  # with thirty of thirty the interval reaches down to 0.88

_Made = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def _of(kind: Callable[..., torch.optim.Optimizer], **options: Any) -> _Made:
    return lambda parameters: kind(parameters, lr=RATE, foreach=False, **options)


# The composition, and PyTorch's own implementation.
_METHODS: dict[str, tuple[Callable[[], optim.Rule], _Made]] = {
    "gradient descent": (optim.gradient_descent, _of(torch.optim.SGD)),
    "momentum": (optim.momentum, _of(torch.optim.SGD, momentum=0.9)),
    "Nesterov": (optim.nesterov, _of(torch.optim.SGD, momentum=0.9, nesterov=True)),
    "Adagrad": (optim.adagrad, _of(torch.optim.Adagrad)),
    "RMSProp": (optim.rmsprop, _of(torch.optim.RMSprop)),
    "Adam": (optim.adam, _of(torch.optim.Adam)),
    "AdamW": (optim.adamw, _of(torch.optim.AdamW)),
    "NAdam": (optim.nadam, _of(torch.optim.NAdam)),
    "RAdam": (optim.radam, _of(torch.optim.RAdam)),
    "AMSGrad": (optim.amsgrad, _of(torch.optim.Adam, amsgrad=True)),
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(method=list(_METHODS))


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    rule, made = _METHODS[str(settings["method"])]
    objective = batched(seed, BATCH, HIDDEN)
    ours = walk(objective, rule(), RATE, UPDATES, only=shuffled(objective, seed))
    theirs, loss = _trained(objective, made, seed)
    return [
        {
            "difference": float((ours.theta - theirs).norm() / theirs.norm()),
            "loss": objective.value(ours.theta),
            "loss_of_pytorch": loss,
        }
    ]


def _trained(objective: Objective, made: _Made, seed: int) -> tuple[torch.Tensor, float]:
    """Make the same updates with PyTorch's optimizer."""
    parameters = [nn.Parameter(piece.clone()) for piece in objective.parameters.pieces(objective.theta)]
    optimizer, drawn = made(parameters), shuffled(objective, seed)
    for step in range(UPDATES):
        theta = objective.parameters.flatten([parameter.detach() for parameter in parameters])
        gradient = objective.gradient(theta, drawn(step))
        for parameter, piece in zip(parameters, objective.parameters.pieces(gradient), strict=True):
            parameter.grad = piece
        optimizer.step()
    theta = objective.parameters.flatten([parameter.detach() for parameter in parameters])
    return theta, objective.value(theta)


def _test(table: Table) -> Sequence[Outcome]:
    same = sum(number(row, "difference") == 0.0 for row in table)
    found = share(same, len(table))
    return [
        outcome(
            "every method is a composition of the three parts",
            above(found, ALL),
            f"share of runs that equal PyTorch's own to the last bit after {UPDATES} updates",
            found,
            ALL,
            f"In {same} of {len(table)} runs, of {len(_METHODS)} methods, weights composed of a momentum, a "
            f"scale and a rate were the same as "
            f"those of PyTorch's own implementation, to the last bit, after {UPDATES} updates of a real "
            f"network.",
        )
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    groups = table.groups("method")
    means = {str(method): sum(rows.numbers("loss")) / len(rows) for (method,), rows in groups.items()}
    names = sorted(means, key=lambda name: -means[name])
    figure = go.Figure(
        go.Bar(
            x=[means[name] for name in names],
            y=names,
            orientation="h",
            marker={"color": UP},
            hovertemplate="%{y}: %{x:.3g}<extra></extra>",
        )
    )
    finished(figure, f"Loss after {UPDATES} updates at rate {RATE:g}", "training loss, mean of the seeds", "")
    return [
        Drawing(
            "losses",
            figure,
            "All methods at the same rate, which suits some and not others: no ranking, but one formula in "
            "ten forms.",
        )
    ]


FORMULA = Study(
    name="formula",
    title="Every optimizer is one formula",
    claim="Every method is theta <- theta - (eta / sigma) m: a schedule eta, a root mean square sigma that "
    "keeps magnitudes, and a momentum m "
    "that keeps directions.",
    rows=("S19",),
    source="this project's decision record 11",
    experiment="Ten methods are composed of the three parts and train a network that reads digits, in "
    "batches, for 200 updates. PyTorch's own "
    "implementation of each makes the same updates on the same batches, and the weights are compared bit by "
    "bit.",
    limits="Equal to the bit with PyTorch's plain implementations (`foreach=False`); its faster ones round "
    "in another order.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 10},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
