"""What the user brings: everything that is needed to evaluate the loss of a run again."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from unstuck.errors import TrainingError, UnstuckError

Loss = Callable[[nn.Module, Any], Tensor]

# Packages whose training loops wrap optimizers and schedulers, and what they call the real ones.
_WRAPPERS = {"accelerate", "lightning", "pytorch_lightning", "lightning_fabric"}
_WRAPPED = ("scheduler", "_scheduler", "optimizer", "_optimizer")

# Where criteria live, which newcomers take for losses of a model and a batch.
_CRITERIA = {"torch.nn.modules.loss", "torch.nn.functional"}

# What Lightning's modules write down with, which works only while their Trainer runs them.
_LOGGING = ("log", "log_dict")


@dataclass(frozen=True)
class Training:
    """A run that can be taken apart: model, loss and data, and the optimizer with its state.

    Attributes:
        model: As it stands where the run is stuck; measured in the mode (train or eval) it is handed in.
        loss: `loss(model, batch)` gives the scalar mean over the batch; see `supervised`. What a LightningModule logs
            on the way (`self.log`) is left out.
        data: Gives the training batches each time it is iterated: a DataLoader or a list. A batch is what one step of
            the optimizer sees: with gradients accumulated over four backward passes, hand over batches of four times
            the size.
        optimizer: Any `torch.optim.Optimizer`, with its state. What Accelerate (and with it Transformers' Trainer) or
            Lightning wrap around one is taken off: its steps depend on where their own loop stands.
        scheduler: The learning-rate scheduler, if there is one; out of its wrapper, too.
        validation: Batches the run does not train on, like `data`.
        clip: The norm to which the run shortens longer gradients before each step (`max_norm` of
            `torch.nn.utils.clip_grad_norm_`); None: it does not.
        schedule_every: Updates between two steps of the scheduler: 1, or as many as an epoch has batches. None: as
            the counts of both tell, which SGD keeps none of.

    Raises:
        TrainingError: An argument is not what it must be; the message names it and says what to pass.
    """

    model: nn.Module
    loss: Loss
    data: Iterable[Any]
    optimizer: Optimizer | None = None
    scheduler: Any = None
    validation: Iterable[Any] | None = None
    clip: float | None = None
    schedule_every: int | None = None

    def __post_init__(self) -> None:
        _check_model(self.model)
        _check_loss(self.loss)
        _check_batches("data", self.data)
        if self.validation is not None:
            _check_batches("validation", self.validation)
        if any(is_lightning_module(type(module)) for module in self.model.modules()):
            object.__setattr__(self, "loss", _unlogged(self.loss))
        object.__setattr__(self, "optimizer", _unwrapped(self.optimizer))
        object.__setattr__(self, "scheduler", _unwrapped(self.scheduler))
        if self.optimizer is not None:
            _check_optimizer(self.optimizer, self.model)
        if self.clip is not None and not _is_positive(self.clip):
            msg = f"`clip` must be a norm above 0, as `max_norm` of clip_grad_norm_, or None, not {_show(self.clip)}"
            raise TrainingError(msg)
        if self.schedule_every is not None and not _is_count(self.schedule_every):
            msg = f"`schedule_every` must be a number of updates above 0, or None, not {_show(self.schedule_every)}"
            raise TrainingError(msg)
        if isinstance(self.scheduler, type) or (
            self.scheduler is not None and not hasattr(self.scheduler, "step")
        ):
            msg = f"`scheduler` must have a step() method, as torch.optim's have, not {_show(self.scheduler)}"
            raise TrainingError(msg)


def supervised(criterion: Callable[[Any, Any], Tensor]) -> Loss:
    """Make the loss of batches `(inputs, targets)`: `criterion(model(inputs), targets)`.

    Raises:
        TrainingError: When evaluated, on a batch that is not a pair.
    """

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if not isinstance(batch, tuple | list) or len(batch) != 2:  # noqa: PLR2004
            msg = (
                "`data` must give batches (inputs, targets) for `supervised`, "
                f"not {_form(batch)}; pass your own loss(model, batch) for other batches"
            )
            raise TrainingError(msg)
        inputs, targets = batch
        return criterion(model(inputs), targets)

    return loss


def check_training(training: object) -> None:
    """Refuse what is no training.

    Raises:
        TrainingError: It is something else.
    """
    if not isinstance(training, Training):
        msg = (
            f"`training` must be an unstuck.Training(model=..., loss=..., data=..., optimizer=...), not "
            f"{_show(training)}"
        )
        raise TrainingError(msg)


def check_budget(budget: object) -> None:
    """Refuse what is no time.

    Raises:
        UnstuckError: It is no number of seconds above 0.
    """
    if isinstance(budget, bool) or not isinstance(budget, Real) or not 0.0 < float(budget) < math.inf:
        msg = f"`budget` must be a number of seconds above 0, not {budget!r}"
        raise UnstuckError(msg)


def _unlogged(loss: Loss) -> Loss:
    """Let what a LightningModule logs come to nothing while its loss is evaluated."""

    @wraps(loss, updated=())
    def quiet(model: nn.Module, batch: Any) -> Tensor:
        logging = [vars(module) for module in model.modules() if is_lightning_module(type(module))]
        silenced = [(held, name) for held in logging for name in _LOGGING if name not in held]
        try:
            for held, name in silenced:
                held[name] = _nothing
            return loss(model, batch)
        finally:
            for held, name in silenced:
                held.pop(name, None)

    return quiet


@cache
def is_lightning_module(kind: type) -> bool:
    """Whether a class is one of Lightning's modules; the framework is not imported to find out."""
    return any(
        base.__name__ == "LightningModule" and base.__module__.split(".")[0] in _WRAPPERS
        for base in kind.__mro__
    )


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        msg = f"`model` must be a torch.nn.Module, not {_show(model)}"
        raise TrainingError(msg)
    parameters = dict(model.named_parameters())
    if not parameters:
        msg = f"`model` has no parameters: pass the module that is being trained, not {type(model).__name__}"
        raise TrainingError(msg)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        msg = (
            f"`model`: all {len(parameters)} parameter tensors are frozen; "
            "set requires_grad=True on those that should train"
        )
        raise TrainingError(msg)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        msg = "`model` is TorchScript, whose parameters cannot be exchanged: pass the module it was made from"
        raise TrainingError(msg)
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            _check_parameter(name, parameter)


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, UninitializedParameter):
        msg = f"`model`: parameter `{name}` has no shape yet: run the model on one batch first"
        raise TrainingError(msg)
    if parameter.is_complex():
        msg = f"`model`: parameter `{name}` is complex; hold its real and imaginary parts, or freeze it"
        raise TrainingError(msg)
    if parameter.layout is not torch.strided:
        msg = f"`model`: parameter `{name}` is {parameter.layout}; hold it dense, or its values alone, or freeze it"
        raise TrainingError(msg)
    if parameter.is_meta:
        msg = f"`model`: parameter `{name}` is on the meta device and has no values: load the model first"
        raise TrainingError(msg)
    if parameter.is_inference():
        msg = f"`model`: parameter `{name}` is of torch.inference_mode(), which cannot train: make it outside"
        raise TrainingError(msg)


def _check_loss(loss: object) -> None:
    if not callable(loss):
        msg = f"`loss` must be a function loss(model, batch) giving a scalar tensor, not {_show(loss)}"
        raise TrainingError(msg)
    home = loss.__module__ if inspect.isfunction(loss) else type(loss).__module__
    if home in _CRITERIA:
        name = getattr(loss, "__name__", None) or f"{type(loss).__name__}()"
        msg = (
            f"`loss` must be a function loss(model, batch), and {name} compares outputs with targets: where batches "
            f"are pairs of inputs and targets, pass unstuck.supervised({name})"
        )
        raise TrainingError(msg)


def _check_batches(name: str, data: object) -> None:
    advice = "pass a DataLoader or a list of batches"
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Tensor)):
        msg = f"`{name}` must give batches when iterated: {advice}, not {_show(data)}"
        raise TrainingError(msg)
    if hasattr(data, "__next__"):
        msg = f"`{name}` can be iterated only once: {advice}, not {_show(data)}"
        raise TrainingError(msg)
    if hasattr(data, "__len__") and _length(data) == 0:
        msg = f"`{name}` gave no batch: {advice} with at least one, not {_show(data)}"
        raise TrainingError(msg)


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # a DataLoader over an iterable data set has the method but no length
        return None


def _check_optimizer(optimizer: object, model: nn.Module) -> None:
    if not isinstance(optimizer, Optimizer):
        msg = f"`optimizer` must be a torch.optim.Optimizer, not {_show(optimizer)}"
        raise TrainingError(msg)
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = list(model.parameters())
    # An optimizer of another model is let in: that it moves nothing here is a diagnosis, not bad input. One
    # that moves wider copies of these very parameters does train them, by a way that cannot be followed.
    if not {id(parameter) for parameter in moved} & {id(parameter) for parameter in own} and any(
        _is_wider_copy(tensor, parameter) for parameter in own for tensor in moved
    ):
        msg = (
            "`optimizer` moves wider copies of the parameters of `model`, which are "
            f"{str(own[0].dtype).removeprefix('torch.')}: make it from model.parameters() of a model in the wider "
            "type, and compute in the narrow one by torch.autocast"
        )
        raise TrainingError(msg)


def _unwrapped(wrapper: Any) -> Any:
    """Give the optimizer or scheduler that a training loop's own wrapper passes everything on to.

    Wrappers of others are left: those may have a rule of their own, as lookahead and SAM have.
    """
    if not any(kind.__module__.split(".")[0] in _WRAPPERS for kind in type(wrapper).__mro__):
        return wrapper
    held = vars(wrapper)
    inner = next((held[name] for name in _WRAPPED if hasattr(held.get(name), "step")), None)
    return wrapper if inner is None else _unwrapped(inner)


def _is_wider_copy(tensor: Tensor, parameter: Tensor) -> bool:
    if tensor.shape != parameter.shape or not (tensor.is_floating_point() and parameter.is_floating_point()):
        return False
    wider = torch.finfo(tensor.dtype).eps < torch.finfo(parameter.dtype).eps
    return wider and torch.equal(tensor.detach().to(parameter.device, parameter.dtype), parameter.detach())


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value < math.inf


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _form(batch: Any) -> str:
    """What a batch is made of, whose numbers say nothing."""
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with {', '.join(map(repr, batch))}"
    if isinstance(batch, Tensor):
        return f"a tensor of shape {list(batch.shape)}"
    return f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else _show(batch)


def _show(value: object) -> str:
    text = " ".join(repr(value).split())
    short = text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004
    return f"{short} ({type(value).__name__})"
