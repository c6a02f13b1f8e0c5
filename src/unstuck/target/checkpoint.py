"""Load a checkpoint into a training: all of it, or nothing."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

from unstuck.errors import CheckpointError
from unstuck.objective.shards import reshard
from unstuck.objective.undoing import all_or_nothing
from unstuck.objective.whole import by_numbers, dealt
from unstuck.target.files import read_checkpoint
from unstuck.target.matching import matched
from unstuck.training import Training

# Under what names training programs keep the parts of a checkpoint; Lightning keeps lists of the last two.
MODEL = ("model", "state_dict", "model_state_dict", "module")
OPTIMIZER = ("optimizer", "optimizer_state_dict", "optimizer_states")
SCHEDULER = ("scheduler", "scheduler_state_dict", "lr_scheduler", "lr_schedulers")

# Switches between implementations of one rule, and settings that newer versions added; what lacks them still fits.
_OPTIONAL = {"foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay"}

# Tensors of an optimizer's state that have the parameter's own shape.
_SHAPED = {"momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "grad_avg", "sum"}

State = Mapping[Any, Any]

_ALONE = "; name the file of the weights in the folder to load them alone"


def load_checkpoint(training: Training, path: str | Path) -> tuple[str, ...]:
    """Load a checkpoint into the training's model, and into its optimizer and scheduler where it holds them.

    Reads files of torch.save, with `weights_only=True`, and .safetensors; a bare state_dict or one among
    others; with or without the prefixes of DDP, torch.compile and Lightning; a Hugging Face folder, with the
    states of optimizer and scheduler beside the weights; of an optimizer by numbers or, as PyTorch's
    `get_optimizer_state_dict` gives it, by names. Nothing is changed unless everything fits. To a model that
    `fully_shard` has divided its whole tensors are dealt out; all processes read the file.

    Returns:
        What was loaded: "model", and "optimizer" and "scheduler" where they were.

    Raises:
        CheckpointError: It cannot be read or does not fit; the message is one line that says why.
    """
    content = read_checkpoint(path)
    parts: dict[str, Callable[[], object]] = {}
    own = training.model.state_dict()
    state = {
        name: dealt(value, own[name]) if isinstance(value, Tensor) else value
        for name, value in matched(training.model, _model_state(content, path)).items()
    }
    saved, optimizer = _part(content, OPTIMIZER), training.optimizer
    if optimizer is not None and saved is not None:
        saved = by_numbers(saved, optimizer, training.model)
        _check_optimizer(optimizer, saved, alone="" if Path(path).is_file() else _ALONE)
        parts["optimizer"] = partial(optimizer.load_state_dict, _dealt(saved, optimizer))
    schedule = _part(content, SCHEDULER)
    if training.scheduler is not None and schedule is not None:
        parts["scheduler"] = lambda: training.scheduler.load_state_dict(dict(schedule))
    parts["model"] = lambda: training.model.load_state_dict(state)
    reshard(training.model)
    with all_or_nothing(training):
        for name, load in parts.items():
            _load(name, load)
    return tuple(sorted(parts))


def _dealt(saved: State, optimizer: Optimizer) -> dict[str, Any]:
    """Divide what has the shape of a parameter as that is divided."""
    every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        number: {
            name: dealt(value, every[number])
            if getattr(value, "shape", None) == every[number].shape
            else value
            for name, value in held.items()
        }
        for number, held in saved["state"].items()
    }
    return {**saved, "state": states}


def _model_state(content: object, path: str | Path) -> State:
    """The tensors by name: the content itself, or what it holds under a usual key, at most two deep."""
    for holder in (content, _entry(content, MODEL)):
        for candidate in (holder, _entry(holder, MODEL)):
            if is_state(candidate):
                return cast("State", candidate)
    held = f" among {', '.join(map(str, cast('State', content)))}" if isinstance(content, Mapping) else ""
    msg = (
        f"{path} holds no state_dict of a model{held:.200}: save it with torch.save(model.state_dict(), file)"
    )
    raise CheckpointError(msg)


def _entry(content: object, keys: tuple[str, ...]) -> object:
    if not isinstance(content, Mapping):
        return None
    return next((cast("State", content)[key] for key in keys if key in content), None)


def is_state(value: object) -> bool:
    """Whether this is the state_dict of a model: tensors by name, and nothing else."""
    if not isinstance(value, Mapping) or not value:
        return False
    entries = cast("State", value).items()
    return all(isinstance(item, Tensor) or str(name).endswith("_extra_state") for name, item in entries)


def _part(content: object, keys: tuple[str, ...]) -> State | None:
    found = _entry(content, keys)
    if isinstance(found, list) and found:
        found = cast("list[object]", found)[0]
    return cast("State", found) if isinstance(found, Mapping) and found else None


def _check_optimizer(optimizer: Optimizer, saved: State, *, alone: str) -> None:
    problem = _optimizer_problem(optimizer, saved)
    if problem:
        msg = f"the checkpoint's optimizer does not fit {type(optimizer).__name__}: {problem}{alone}"
        raise CheckpointError(msg)


def _optimizer_problem(optimizer: Optimizer, saved: State) -> str | None:
    groups, states = saved.get("param_groups"), saved.get("state")
    if not isinstance(groups, list) or not isinstance(states, Mapping):
        return "it is not the state_dict of an optimizer"
    groups, states = cast("list[State]", groups), cast("State", states)
    if len(groups) != len(optimizer.param_groups):
        return f"it has {len(groups)} parameter groups, not {len(optimizer.param_groups)}"
    pairs = zip(groups, optimizer.param_groups, strict=True)
    problems = (_group_problem(theirs, mine, optimizer.defaults.keys(), states) for theirs, mine in pairs)
    return next((problem for problem in problems if problem), None)


def _group_problem(theirs: State, mine: State, settings: AbstractSet[str], states: State) -> str | None:
    lacking = sorted(settings - theirs.keys() - _OPTIONAL)
    if lacking:
        return f"it is of another kind, without {', '.join(lacking)}"
    if len(theirs["params"]) != len(mine["params"]):
        return f"a group has {len(theirs['params'])} parameters, not {len(mine['params'])}"
    for index, parameter in zip(theirs["params"], mine["params"], strict=True):
        for name, value in states.get(index, {}).items():
            if name in _SHAPED and value is not None and value.shape != parameter.shape:
                return f"'{name}' has shape {list(value.shape)}, its parameter {list(parameter.shape)}"
    return None


def _load(name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except Exception as error:
        reason = " ".join(str(error).split())
        msg = f"the checkpoint's {name} cannot be loaded: {type(error).__name__}: {reason:.300}"
        raise CheckpointError(msg) from error
