"""Whose parameters an optimizer moves: found among all that lives, since nobody says it."""

import gc
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from unstuck.objective.shards import local

# What every module has of its own, which no user has put there.
_OWN = frozenset(vars(nn.Module()))

# Of a list that a module keeps so many entries are looked at: layers that it does not know of are few.
_MOST_KEPT = 64

# What a compiled module calls the one it was made from, and others what they are put around.
_COMPILED_FROM = "_orig_mod"
_AROUND = frozenset({_COMPILED_FROM, "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


@dataclass(frozen=True)
class Inventory:
    """What a model has to be trained, while nobody computes with others in its parameters' places.

    Attributes:
        trainable: Name, id and number of entries of each parameter that requires a gradient.
        matrices: Names of the layers that multiply by a matrix.
        unregistered: Names of lists and dictionaries whose layers get gradients, and of which no module knows.
    """

    trainable: tuple[tuple[str, int, int], ...]
    matrices: tuple[str, ...]
    unregistered: tuple[str, ...] = ()


def inventory(model: nn.Module) -> Inventory:
    """Take stock of a model, but not during a forward pass: functional calls exchange what it has."""
    kept = {
        (place, name): tensor
        for place, name, tensor in _kept(model)
        if tensor.requires_grad and tensor.grad is not None
    }
    trainable = tuple(
        (as_written(name), id(tensor), tensor.numel())
        for name, tensor in (*model.named_parameters(), *((name, one) for (_, name), one in kept.items()))
        if tensor.requires_grad and tensor.numel()  # of a divided one another process may have all
    )
    places = tuple(dict.fromkeys(as_written(place) for place, _ in kept))
    return Inventory(trainable, tuple(matrices_of(model)), places)


def _kept(model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Give what modules keep in lists and dictionaries and do not know of: where, its name, the parameter."""
    registered = set(map(id, model.parameters()))
    for prefix, module in model.named_modules():
        if type(module).__module__.startswith("torch."):
            continue  # what it keeps it has itself put there, as FSDP its flat parameters
        for key, value in [*vars(module).items()]:
            if key in _OWN or type(value) not in (list, tuple, dict):
                continue
            place = f"{prefix}.{key}" if prefix else key
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for number, entry in islice(entries, _MOST_KEPT):
                for name, tensor in _parameters_in(f"{place}.{number}", entry):
                    if id(tensor) not in registered:
                        yield place, name, tensor


def _parameters_in(name: str, entry: Any) -> Iterable[tuple[str, Tensor]]:
    if isinstance(entry, nn.Module):
        return entry.named_parameters(name)
    return [(name, entry)] if isinstance(entry, nn.Parameter) else []


def is_zero(optimizer: Optimizer) -> bool:
    """Whether all parameters that it moves are zero."""
    return not any(bool(local(tensor.detach()).any()) for tensor in parameters_of(optimizer))


def momentum_of(optimizer: Optimizer) -> float:
    """Give the share of a step that later steps repeat, as far as it is known by its usual names; else 0."""
    group = optimizer.param_groups[0]
    betas, momentum = group.get("betas"), group.get("momentum")
    beta = betas[0] if isinstance(betas, tuple | list) and betas else momentum
    return float(beta) if isinstance(beta, float | Tensor) and 0.0 <= beta < 1.0 else 0.0


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """All that it moves, each once."""
    found = {id(tensor): tensor for group in optimizer.param_groups for tensor in group["params"]}
    return list(found.values())


def model_of(parameters: Sequence[Tensor]) -> nn.Module | None:
    """Find the outermost module that holds most of them; None where there is none."""
    modules = living()
    parents: dict[int, list[nn.Module]] = {}
    for module in modules:
        for child in _entries(module, "_modules"):
            parents.setdefault(id(child), []).append(module)
    wanted = {id(parameter) for parameter in parameters}
    owners = [
        module for module in modules if any(id(entry) in wanted for entry in _entries(module, "_parameters"))
    ]
    roots = _roots(owners, parents)
    held = [sum(id(parameter) in wanted for parameter in root.parameters()) for root in roots]
    return roots[held.index(max(held))] if roots else None


def held_by(ids: Set[int]) -> list[str]:
    """Names of those parameters among them that modules hold, in the outermost module that holds most of them."""
    held = {id(entry): entry for module in living() for entry in _entries(module, "_parameters")}
    parameters = [entry for number, entry in held.items() if number in ids and entry.requires_grad]
    return [as_written(name) for name in names_of(model_of(parameters), parameters)]


def living() -> list[nn.Module]:
    """All modules that there are."""
    # By type: to ask an object that stands for another one may load it.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]


def names_of(model: nn.Module | None, parameters: Sequence[Tensor]) -> list[str]:
    """Name them as the model does; what it does not know is called by its number."""
    known = {} if model is None else {id(tensor): name for name, tensor in model.named_parameters()}
    return [known.get(id(tensor), f"parameter {number}") for number, tensor in enumerate(parameters)]


def as_written(name: str) -> str:
    """Leave out of a name what PyTorch's wrappers inside a model put there: users do not know it."""
    return ".".join(part for part in name.split(".") if part not in _AROUND)


def layer_of(name: str) -> str:
    """The module that a parameter belongs to."""
    return name.rpartition(".")[0] or name


def matrices_of(model: nn.Module) -> list[str]:
    """Names of the layers that multiply by a matrix, in the model's order.

    An embedding does not: of its rows a batch touches few.
    """
    return [
        as_written(name)
        for name, module in model.named_modules()
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag)
        and any(tensor.dim() > 1 for tensor in module.parameters(recurse=False))
    ]


def _entries(module: nn.Module, kind: str) -> list[Any]:
    return [*(module.__dict__.get(kind) or {}).values()]  # one half made has none yet


def _roots(owners: Sequence[nn.Module], parents: dict[int, list[nn.Module]]) -> list[nn.Module]:
    seen: set[int] = set()
    roots: list[nn.Module] = []
    waiting = list(owners)
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        above = parents.get(id(module), [])
        waiting.extend(above)
        if not above:
            roots.append(module)
    return roots


def unwrapped(module: nn.Module) -> nn.Module:
    """Take off wrappers that hold the same under other names, so that names are those the user knows."""
    while True:
        entries = module.__dict__.get("_modules") or {}
        if _COMPILED_FROM in entries:
            module = entries[_COMPILED_FROM]
        elif isinstance(module, DataParallel | DistributedDataParallel):
            module = module.module
        else:
            return module
