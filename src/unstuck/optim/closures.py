"""How an optimizer is asked for a step: some evaluate the loss themselves."""

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from typing import Any
from weakref import WeakSet

from torch.optim import Optimizer

# Whose closure may be left out, as the signature has it, and cannot, as was seen: those of SAM.
_seen: WeakSet[type[Optimizer]] = WeakSet()


def wants_closure(optimizer: Optimizer) -> bool:
    """Whether `step` cannot do without a closure, as that of L-BFGS; some strangers' cannot do with one."""
    return type(optimizer) in _seen or any(each.default is Parameter.empty for each in _positional(optimizer))


def step_with_gradients(optimizer: Optimizer, closure: Callable[[], Any]) -> None:
    """Step on the gradients that are there; where that fails, and `step` takes a closure, with `closure`.

    Raises:
        Exception: What the optimizer raises without a closure, if it raises with one, too.
    """
    try:
        optimizer.step()
    except Exception as error:
        if not any(_positional(optimizer)):
            raise
        try:
            optimizer.step(closure)
        except Exception:
            raise error from None
        _seen.add(type(optimizer))


def _positional(optimizer: Optimizer) -> Iterator[Parameter]:
    parameters = list(signature(type(optimizer).step).parameters.values())[1:]
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return (each for each in parameters if each.kind in positional)
