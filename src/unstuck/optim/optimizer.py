r"""The one optimizer that carries every rule: $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from unstuck.optim import foreach
from unstuck.optim.direction import Direction
from unstuck.optim.door import checked_gradient, checked_group, checked_saved
from unstuck.optim.errors import OptimizerError
from unstuck.optim.fused import Now, kernel
from unstuck.optim.pieces import State, alike, pieces
from unstuck.optim.rule import Moment, Part, Role, Rule, chain

# Where a part was put in later: the count of steps before it.
SINCE = {Role.MOMENTUM: "momentum_since", Role.SCALE: "scale_since"}


class _Kept(Enum):
    AS_IT_IS = "kept"


class Optimizer(torch.optim.Optimizer):
    r"""Steps parameters by a rule: $\theta \leftarrow (1 - \eta\lambda)\theta - \frac{\eta}{\sigma} m$.

    With a recipe's rule every step is to the bit that of the `torch.optim` optimizer of that name with
    `foreach=False`, and with `fused=True` that of its `fused=True`; in half precision, where those two round
    differently, some roundings are those of `foreach=True`. What is remembered has PyTorch's names in the
    state: `exp_avg`, `exp_avg_sq`, `max_exp_avg_sq`, `momentum_buffer`, `sum`, `grad_avg`; `step` is a number.
    Complex parameters are stepped as pairs of real ones, like PyTorch's but for rounding.

    Args:
        params: Parameters, named parameters, or groups, as for any `torch.optim.Optimizer`. A group may have its own
            `lr`, `rule`, `maximize` and `fused`.
        rule: A recipe such as `adam()`, a `chain` of parts, or one part.
        lr: $\eta$, a number that is not negative or a tensor of one.
        maximize: Whether to go up.
        fused: Whether to step by the kernel of PyTorch that does all of the rule at once.

    Raises:
        OptimizerError: `rule` is none, or PyTorch has no fused kernel for it; `lr` is negative or not finite; a
            group has an option of `torch.optim` that belongs into its rule. `step` raises it for a sparse gradient,
            before any parameter is changed.
    """

    def __init__(
        self,
        params: Iterable[Any],
        rule: Rule | Part,
        *,
        lr: float | Tensor,
        maximize: bool = False,
        fused: bool = False,
    ) -> None:
        options = {"lr": lr, "rule": chain(rule), "maximize": maximize, "fused": fused}
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own `lr`, `rule`, `maximize` or `fused`, or those of the optimizer.

        Raises:
            OptimizerError: As the optimizer itself does.
        """
        super().add_param_group(checked_group({**self.defaults, **param_group}))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - PyTorch overloads it
        """Move the parameters that have a gradient.

        Args:
            closure: Computes the loss and its gradients, once, before the step.

        Returns:
            What `closure` returned, or None without one.

        Raises:
            OptimizerError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self._step()
        return loss

    def _step(self) -> None:
        groups = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        gradients = [checked_gradient(param) for _, params in groups for param in params]
        norm = cache(lambda: torch.nn.utils.get_total_norm(gradients))
        for group, params in groups:
            states = self._begun(group["rule"], params)
            for alike_params, alike_states in alike(params, states, _counts):
                self._step_together(group, alike_params, alike_states, norm)

    def _begun(self, rule: Rule, params: Sequence[Tensor]) -> list[State]:
        """Give what is remembered of parameters; finding it takes a good part of a step of small tensors."""
        states: list[State] = [self.state[param] for param in params]
        for param, state in zip(params, states, strict=True):
            if "step" not in state:
                state["step"] = 0
                for part in rule.parts:
                    state.update(part.start(as_real(param)))
        return states

    def _step_together(
        self,
        group: Mapping[str, Any],
        params: Sequence[Tensor],
        states: Sequence[State],
        norm: Callable[[], Tensor],
    ) -> None:
        """Step parameters that have the same counts."""
        rule = cast("Rule", group["rule"])
        for state in states:
            state["step"] += 1
        slots = [slot for part in rule.parts for slot in part.slots]
        columns = [
            _real(params),
            _real([cast("Tensor", param.grad) for param in params]),
            *([state[slot] for state in states] for slot in slots),
        ]
        lr, maximize = float(group["lr"]), bool(group["maximize"])
        ages = [states[0]["step"] - states[0].get(SINCE.get(part.role, ""), 0) for part in rule.parts]
        fused = kernel(rule) if group["fused"] and len(set(ages)) <= 1 else None
        if fused is not None:
            memory = dict(zip(slots, columns[2:], strict=True))
            fused(columns[0], columns[1], memory, Now(states[0]["step"], lr, maximize))
            return
        scaled = rule.part(Role.SCALE) is not None
        for theta, gradient, *rest in pieces(columns, whole=rule.layerwise, scaled=scaled):
            direction = Direction.along(foreach.neg(gradient) if maximize else gradient)
            memory = dict(zip(slots, rest, strict=True))
            for part, age in zip(rule.parts, ages, strict=True):
                direction = part.step(direction, Moment(theta, memory, age, norm))
            direction.descend(theta, lr)

    def replace(
        self,
        *,
        momentum: Part | _Kept | None = _Kept.AS_IT_IS,
        scale: Part | _Kept | None = _Kept.AS_IT_IS,
    ) -> None:
        """Change the momentum or the scale while running; all that the other parts remember stays.

        The new part starts anew for every parameter, its bias corrected from here on. None leaves the part out.
        What is the same part as before keeps what it remembers.

        Args:
            momentum: Such as `HeavyBall(0.9)`.
            scale: Such as `AverageOfSquares(0.99)`.

        Raises:
            OptimizerError: A momentum is given as scale or a scale as momentum, or there is no fused kernel for what
                would come about; nothing has been changed then.
        """
        asked = {Role.MOMENTUM: momentum, Role.SCALE: scale}
        news = {role: part for role, part in asked.items() if not isinstance(part, _Kept)}
        for role, part in news.items():
            if part is not None and getattr(part, "role", None) is not role:
                like = "HeavyBall(0.9)" if role is Role.MOMENTUM else "AverageOfSquares(0.99)"
                msg = f"`{role}` must be such a part, as {like}, not {part!r}"
                raise OptimizerError(msg)
        rules = [_replaced(group["rule"], news) for group in self.param_groups]
        for group, rule in zip(self.param_groups, rules, strict=True):
            checked_group({**group, "rule": rule})
        for group, rule in zip(self.param_groups, rules, strict=True):
            for role, part in news.items():
                self._exchange(group, role, part)
            group["rule"] = rule
        self.defaults["rule"] = _replaced(self.defaults["rule"], news)

    def _exchange(self, group: Mapping[str, Any], role: Role, new: Part | None) -> None:
        old = group["rule"].part(role)
        if new == old:
            return
        for param in group["params"]:
            state = self.state.get(param)
            if not state:
                continue
            for slot in () if old is None else old.slots:
                del state[slot]
            if new is not None:
                state.update(new.start(as_real(param)))
                state[SINCE[role]] = state["step"]

    def state_dict(self) -> dict[str, Any]:
        """Give all that is remembered, as plain data: `torch.load(weights_only=True)` reads it; rules are text."""
        saved = super().state_dict()
        for group in saved["param_groups"]:
            group["rule"] = repr(group["rule"])
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, to the bit.

        Raises:
            OptimizerError: It was saved with another rule, or by another optimizer; nothing has been changed then.
        """
        super().load_state_dict(checked_saved(state_dict, self.param_groups))


def _replaced(rule: Rule, news: Mapping[Role, Part | None]) -> Rule:
    for role, part in news.items():
        rule = rule.replaced(role, part)
    return rule


def _counts(state: State) -> tuple[int, int, int]:
    return state["step"], state.get("momentum_since", 0), state.get("scale_since", 0)


def _real(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]


def as_real(tensor: Tensor) -> Tensor:
    """View complex numbers as pairs of real ones."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
