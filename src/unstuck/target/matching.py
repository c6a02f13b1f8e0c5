"""Fit the names and shapes of a saved state to those of a model, or say why they do not fit."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from torch import Tensor, nn

from unstuck.errors import CheckpointError

# Put before every name by DataParallel and DDP, by torch.compile, and by a LightningModule that holds the model.
PREFIXES = ("module.", "_orig_mod.", "model.")

State = Mapping[str, Any]

_SHOWN = 3  # names in one message


def matched(model: nn.Module, saved: State) -> dict[str, Any]:
    """Give the saved state under the model's own names, complete and of the right shapes.

    A prefix that all names have in common is put on or taken off where that makes them match. Of tensors
    that the model ties together one is enough.

    Raises:
        CheckpointError: Names are missing or left over, or a shape differs.
    """
    wanted = model.state_dict(keep_vars=True)
    state = {own: saved[name] for name, own in own_names(model, saved).items()}
    state = {**_from_ties(wanted, state), **state}
    missing = [name for name in wanted if name not in state]
    extra = [name for name in state if name not in wanted]
    if missing or extra:
        raise CheckpointError(_mismatch(missing, extra))
    _check_shapes(wanted, state)
    return state


def own_names(model: nn.Module, saved: State) -> dict[str, str]:
    """Give the model's own name for each saved one, by the prefixes that make most of them match."""
    wanted = model.state_dict(keep_vars=True)
    return min(_renamings(wanted, saved), key=lambda renamed: len(wanted.keys() ^ set(renamed.values())))


def _renamings(wanted: State, saved: State) -> Iterable[dict[str, str]]:
    """All ways to take common prefixes off the saved names, and to put the wanted ones' on; as they are first."""
    for off, on in product(_common_prefixes(saved), _common_prefixes(wanted)):
        yield {name: on + name.removeprefix(off) for name in saved}


def _common_prefixes(names: Iterable[str]) -> list[str]:
    """Every chain of known prefixes that all names begin with, the empty one first."""
    names = list(names)
    chains = [""]
    while longer := [
        chains[-1] + prefix
        for prefix in PREFIXES
        if names and all(name.startswith(chains[-1] + prefix) for name in names)
    ]:
        chains.append(longer[0])
    return chains


def _from_ties(wanted: State, state: State) -> dict[str, Any]:
    """For names that are not there: the value of another name of the same tensor."""
    present = {id(wanted[name]): value for name, value in state.items() if name in wanted}
    return {name: present[id(tensor)] for name, tensor in wanted.items() if id(tensor) in present}


def _check_shapes(wanted: State, state: State) -> None:
    for name, mine in wanted.items():
        theirs = state[name]
        if not isinstance(mine, Tensor):  # extra state, which only its module understands
            continue
        if not isinstance(theirs, Tensor):
            msg = f"the checkpoint's '{name}' is a {type(theirs).__name__}, not a tensor"
            raise CheckpointError(msg)
        if theirs.shape != mine.shape:
            msg = (
                f"the checkpoint's '{name}' has shape {list(theirs.shape)} and the model's {list(mine.shape)}: "
                "build the model as it was when the checkpoint was saved"
            )
            raise CheckpointError(msg)


def _mismatch(missing: list[str], extra: list[str]) -> str:
    parts: list[str] = []
    if missing:
        parts.append(f"{_several(missing)} of the model {'is' if len(missing) == 1 else 'are'} not in it")
    if extra:
        parts.append(f"the model has no {_several(extra)}")
    return f"the checkpoint does not fit the model: {'; '.join(parts)}"


def _several(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
