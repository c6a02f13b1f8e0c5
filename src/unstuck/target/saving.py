"""Write a checkpoint in the form in which the user's script wrote its own, so that it can load it."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from unstuck.target.checkpoint import MODEL, OPTIMIZER, SCHEDULER, is_state
from unstuck.target.files import read_checkpoint
from unstuck.target.matching import own_names

Content = dict[str, Any]


def like(path: str | Path, model: nn.Module, state: Content, *, unscheduled: bool = False) -> Content:
    """Give what the checkpoint at `path` holds, with the parts that it has of `state` in the place of its own.

    Args:
        path: As it was loaded.
        model: Whose names `state` uses; the checkpoint may have others, with the prefixes of DDP or Lightning.
        state: `model_state_dict`, `optimizer_state_dict` and perhaps `scheduler_state_dict`.
        unscheduled: Whether the optimizer has come into the place of the one that the saved schedule drives, which is
            left out then.
    """
    content = _replaced(cast("Content", read_checkpoint(path)), model, state)
    return {key: part for key, part in content.items() if not (unscheduled and key in SCHEDULER)}


def write_checkpoint(path: Path, content: Content) -> None:
    """Write it through a file beside it, so that no reader sees a part of it; .safetensors hold the model alone."""
    draft = path.with_name(f".{path.name}.part")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file  # noqa: PLC0415 - not needed for the usual kind

            # Copies, since the format holds no tensor under two names, as tied ones have.
            held = _model_in(content).items()
            tensors = {
                name: each.detach().clone().contiguous() for name, each in held if isinstance(each, Tensor)
            }
            save_file(tensors, str(draft))
        else:
            torch.save(content, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # is there only after a failure


def holds_optimizer(path: Path, content: Content) -> bool:
    """Whether what `write_checkpoint` puts into a file has the state of an optimizer."""
    return path.suffix != ".safetensors" and any(key in content for key in OPTIMIZER)


def _model_in(content: Content) -> Content:
    """The state of the model in a checkpoint of any layout."""
    while not is_state(content):
        content = content[next(key for key in MODEL if key in content)]
    return content


def _replaced(content: Content, model: nn.Module, state: Content) -> Content:
    if is_state(content):
        return _renamed(content, model, state["model_state_dict"])
    new = dict(content)
    for keys, part in (
        (MODEL, "model_state_dict"),
        (OPTIMIZER, "optimizer_state_dict"),
        (SCHEDULER, "scheduler_state_dict"),
    ):
        key = next((key for key in keys if key in content), None)
        if key is None or part not in state:
            continue
        held = content[key]
        if keys is MODEL:
            new[key] = _replaced(held, model, state)
        else:
            new[key] = [state[part]] if isinstance(held, list) else state[part]
    return new


def _renamed(saved: Content, model: nn.Module, own: Content) -> Content:
    """The model's tensors under the names that the checkpoint has for them."""
    return {name: own.get(mine, saved[name]) for name, mine in own_names(model, saved).items()}
