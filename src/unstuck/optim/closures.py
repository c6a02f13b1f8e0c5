"""How an optimizer is asked for a step: some evaluate the loss themselves."""

from inspect import Parameter, signature

from torch.optim import Optimizer


def wants_closure(optimizer: Optimizer) -> bool:
    """Whether `step` cannot do without a closure, as that of L-BFGS; some strangers' cannot do with one."""
    parameters = list(signature(type(optimizer).step).parameters.values())[1:]
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return any(each.default is Parameter.empty and each.kind in positional for each in parameters)
