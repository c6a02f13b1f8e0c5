"""Read a checkpoint file without running anything that is in it."""

import pickle
import re
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from unstuck.errors import CheckpointError

# What a Hugging Face folder keeps its weights in, the better format first.
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")

# And beside them, the state of what trains them.
_BESIDE = {"optimizer": "optimizer.pt", "scheduler": "scheduler.pt"}

_GLOBAL = re.compile(r"(?:GLOBAL|class) ([\w.]+)")
_PICKLE = b"\x80"


def read_checkpoint(path: str | Path) -> Any:
    """Read what a checkpoint holds onto the CPU: tensors and plain containers, nothing else.

    Of a Hugging Face folder, the weights, and the states of optimizer and scheduler where it has them.

    Raises:
        CheckpointError: There is no such file, it is damaged, or it would run code when loaded.
    """
    path = Path(path).expanduser()
    file = _locate(path)
    beside = {
        part: path / name for part, name in _BESIDE.items() if path.is_dir() and (path / name).is_file()
    }
    if not beside:
        return _read(file)
    return {"model": _read(file)} | {part: _read(other) for part, other in beside.items()}


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # hints for those who wrote the file, beside the error that follows
            return torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(file, str(error))) from error
    except OSError as error:
        msg = f"cannot read {file}: {error.strerror or error}"
        raise CheckpointError(msg) from error
    except (SafetensorError, RuntimeError, EOFError, LookupError, ValueError, TypeError) as error:
        msg = f"{file} is damaged or no checkpoint: {_reason(error)}; save or copy it again"
        raise CheckpointError(msg) from error


def _locate(path: Path) -> Path:
    if path.is_dir():
        inside = next((path / name for name in _IN_FOLDERS if (path / name).is_file()), None)
        if inside is None:
            msg = f"{path} is a folder without {' or '.join(_IN_FOLDERS)}: name the checkpoint file itself"
            raise CheckpointError(msg)
        return inside
    if not path.exists():
        siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        msg = f"there is no checkpoint {path}{f', did you mean {path.with_name(near[0])}?' if near else ''}"
        raise CheckpointError(msg)
    return path


def _refusal(file: Path, reason: str) -> str:
    found = _GLOBAL.search(reason)
    if found is None and file.read_bytes()[:1] != _PICKLE:
        return f"{file} is damaged or no checkpoint: save or copy it again"
    holds = f"'{found[1]}'" if found else "more than tensors"
    return (
        f"refused to load {file}: it holds {holds}, and loading that could run code; "
        "save tensors alone, as with torch.save(model.state_dict(), file)"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it ends too early"
    first = " ".join(str(error).split()).split(". ")[0].removesuffix(".")
    return first if isinstance(error, (SafetensorError, RuntimeError)) else "it cannot be read as one"
