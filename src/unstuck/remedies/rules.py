"""Other rules in the place of the optimizer's: momentum, a rate for each parameter, a fresh state."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeGuard, cast

import torch
from torch import nn
from torch.optim import Optimizer

from unstuck.findings.records import Cause
from unstuck.objective.decay import decouples
from unstuck.optim import HeavyBall, Role, Rule, reading
from unstuck.optim import Optimizer as Composed
from unstuck.remedies.run import Run, forgetting
from unstuck.remedies.treatment import Left, NotApplicableError, Situation, Treatment
from unstuck.training import Training

MOMENTUM = 0.9

# Adam's own default, and ten times that, which suits small networks.
_ADAM_RATES = (1e-3, 1e-2)

# Iterations of one step of L-BFGS, and pairs that it remembers (Liu & Nocedal 1989: more than twenty hardly help).
_INNER, _PAIRS = 10, 20

# What Adagrad calls the sum of squares that it begins with.
_BEGUN = "initial_accumulator_value"

# What a state is called that holds a scale for each parameter.
_SCALES = ("exp_avg_sq", "square_avg", "sum", "exp_inf", "acc_delta")


def momentum(known: Situation) -> Sequence[Treatment]:
    """Give plain gradient descent a momentum, at the present rate."""
    optimizer = known.training.optimizer
    if optimizer is None or not _is_plain(optimizer):
        return []
    line = f'for group in optimizer.param_groups:\n    group["momentum"] = {MOMENTUM}'
    if isinstance(optimizer, Composed):
        line = f"optimizer.replace(momentum=unstuck.optim.HeavyBall({MOMENTUM}))"

    def apply(run: Run) -> None:
        if isinstance(run.optimizer, Composed):
            run.optimizer.replace(momentum=HeavyBall(MOMENTUM))
            return
        for group in run.optimizer.param_groups:
            group["momentum"] = MOMENTUM

    return [
        Treatment(
            "momentum",
            frozenset({Cause.ILL_CONDITIONED, Cause.STEP_TOO_SMALL, Cause.PLATEAU}),
            f"momentum {MOMENTUM}",
            (line,),
            "Polyak, 1964; Sutskever et al., 2013",
            apply,
        )
    ]


def per_parameter_scale(known: Situation) -> Sequence[Treatment]:
    """Divide each parameter's step by the scale of its own gradients: Adam, in the optimizer's place."""
    optimizer = known.training.optimizer
    if optimizer is None or _is_adaptive(optimizer):
        return []
    return [_adam(known.training, rate) for rate in _ADAM_RATES]


def quasi_newton(known: Situation) -> Sequence[Treatment]:
    """L-BFGS, where each step sees all the data and the loss is not random: nothing else is as good at valleys."""
    optimizer, sample = known.training.optimizer, known.measured.sample
    one = sample.whole and sample.batches == 1 and not sample.stochastic
    if optimizer is None or not one or isinstance(optimizer, torch.optim.LBFGS):
        return []
    if any(_decay(group) for group in optimizer.param_groups):
        return []  # it knows of none, and would go down another loss
    settings = f'max_iter={_INNER}, history_size={_PAIRS}, line_search_fn="strong_wolfe"'

    def apply(run: Run) -> None:
        run.optimizer = torch.optim.LBFGS(
            _groups(run.optimizer), max_iter=_INNER, history_size=_PAIRS, line_search_fn="strong_wolfe"
        )

    return [
        Treatment(
            "quasi-newton",
            frozenset({Cause.ILL_CONDITIONED, Cause.PLATEAU}),
            "L-BFGS with a line search: steps corrected for the curvature that the gradients show",
            (
                f"optimizer = torch.optim.LBFGS(model.parameters(), {settings})",
                "optimizer.step(closure)  # zeroes the gradients, evaluates the loss, calls backward, returns it",
            ),
            "Liu & Nocedal, 1989",
            apply,
            rated=True,
            left=Left.BEFORE,
        )
    ]


def refresh(known: Situation) -> Sequence[Treatment]:
    """Forget what the optimizer has gathered: its scale no longer describes the gradient."""
    optimizer = known.training.optimizer
    if optimizer is None or not optimizer.state:
        return []
    fresh = Treatment(
        "refresh",
        frozenset({Cause.STALE_SECOND_MOMENT, Cause.NON_FINITE}),
        f"a fresh state for {type(optimizer).__name__}",
        forgetting(optimizer),
        "Kingma & Ba, 2015, section 3; Reddi et al., 2018",
        lambda run: run.forget(),
    )
    begun = [float(group.get(_BEGUN, 0.0)) for group in optimizer.param_groups]
    if not isinstance(optimizer, torch.optim.Adagrad) or not any(begun):
        return [fresh]
    lines = ("for group in optimizer.param_groups:", f'    group["{_BEGUN}"] = 0.0', *fresh.code)
    # What a scale begins with is of no gradient, and a fresh one begins with it again.
    change = f"{fresh.change}, whose sum of squares begins at 0 and not at {max(begun):g}"
    return [replace(fresh, change=change, code=lines, apply=_emptied)]


def _emptied(run: Run) -> None:
    for group in run.optimizer.param_groups:
        group[_BEGUN] = 0.0
    run.forget()
    for state in run.optimizer.state.values():
        state["sum"].zero_()


def _adam(training: Training, rate: float) -> Treatment:
    def apply(run: Run) -> None:
        run.optimizer = fresh_adam(run.optimizer, rate)

    return Treatment(
        "per-parameter-scale",
        frozenset({Cause.ILL_CONDITIONED, Cause.VANISHING_GRADIENT, Cause.PLATEAU}),
        f"Adam at rate {rate:g}: each parameter's step divided by the scale of its gradients",
        fresh_adam_lines(training, rate),
        "Kingma & Ba, 2015",
        apply,
        left=Left.BEFORE,
    )


def fresh_adam(optimizer: Optimizer, rate: float) -> torch.optim.Adam:
    """Give an Adam for the parameters that an optimizer moves, with its weight decay if that is one for all."""
    kind, decay = _kind_and_decay(optimizer)
    return kind(_groups(optimizer), lr=rate, weight_decay=decay)


def fresh_adam_lines(training: Training, rate: float) -> tuple[str, ...]:
    """The lines of code that make such an optimizer, and gradients that it takes."""
    optimizer = training.optimizer
    kind, decay = (torch.optim.Adam, 0.0) if optimizer is None else _kind_and_decay(optimizer)
    decaying = f", weight_decay={decay:g}" if decay else ""
    line = f"optimizer = torch.optim.{kind.__name__}(model.parameters(), lr={rate:g}{decaying})"
    names = [name for name, module in training.model.named_modules() if gives_sparse(module)]
    dense = [
        f"model.get_submodule({name!r}).sparse = False  # Adam takes no sparse gradients" for name in names
    ]
    return (*dense, line)


def gives_sparse(module: nn.Module) -> TypeGuard[nn.Embedding | nn.EmbeddingBag]:
    """Whether the gradients of a module's weights are sparse tensors, which few optimizers take."""
    return isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse


def _kind_and_decay(optimizer: Optimizer) -> tuple[type[torch.optim.Adam], float]:
    """AdamW where the optimizer's decay is apart from its gradient: Adam would divide it by the scale."""
    decays = {_decay(group) for group in optimizer.param_groups}
    decay = decays.pop() if len(decays) == 1 else 0.0
    apart = decay and all(decouples(optimizer, group) for group in optimizer.param_groups)
    return torch.optim.AdamW if apart else torch.optim.Adam, decay


def _decay(group: dict[str, Any]) -> float:
    if isinstance(rule := group.get("rule"), Rule):
        return sum(reading.decays(rule))
    return float(group.get("weight_decay", 0.0))


def _groups(optimizer: Optimizer) -> list[Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not parameters:
        msg = "the optimizer moves no parameters"
        raise NotApplicableError(msg)
    return parameters


def _is_plain(optimizer: Optimizer) -> bool:
    """Whether it is gradient descent without momentum, which can be given one."""
    if isinstance(optimizer, Composed):
        rules: list[Rule] = [group["rule"] for group in optimizer.param_groups]
        return not any(rule.part(role) for rule in rules for role in (Role.MOMENTUM, Role.SCALE))
    return isinstance(optimizer, torch.optim.SGD) and not any(g["momentum"] for g in optimizer.param_groups)


def _is_adaptive(optimizer: Optimizer) -> bool:
    if isinstance(optimizer, Composed):
        return any(group["rule"].part(Role.SCALE) for group in optimizer.param_groups)
    states = cast("list[dict[str, Any]]", list(optimizer.state.values()))
    known: tuple[Callable[..., Any], ...] = (torch.optim.SGD, torch.optim.ASGD, torch.optim.LBFGS)
    if type(optimizer) in known:
        return False
    return "betas" in optimizer.defaults or any(key in state for state in states for key in _SCALES)
