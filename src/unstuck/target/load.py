"""Find the training that a TARGET names, and build it."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from torch import nn

from unstuck.demos import DEMOS
from unstuck.errors import TargetError
from unstuck.integrations.recognised import training_in
from unstuck.target.modules import Loaded, import_file, import_named, is_file
from unstuck.target.user_code import running
from unstuck.training import Training

FORMS = "file.py:function, package.module:function or demo:NAME"
_MOST_NAMES = 12


def load_training(target: str) -> Training:
    """Build the training that `target` names: `file.py:function`, `package.module:function`, `demo:NAME`.

    The function is called without arguments; a Training that the file holds under that name will do as well, and
    so will, in either place, Transformers' Trainer, or Lightning's or a LightningModule, with their data. A file is
    run as `python file.py` would, except for what its `if __name__ == "__main__":` guards.

    Raises:
        TargetError: It does not lead to a training; the message is one line that says what to do.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where:
        msg = f"TARGET must be {FORMS}, not '{target}'{_suggest_colon(target)}"
        raise TargetError(msg)
    if where == "demo":
        return _demo(name)
    loaded = import_file(where) if is_file(where) else import_named(where)
    return _build(loaded, name)


def _demo(name: str) -> Training:
    if name not in DEMOS:
        msg = f"there is no demo '{name}'{_did_you_mean(name, list(DEMOS))}; there are: {', '.join(DEMOS)}"
        raise TargetError(msg)
    return DEMOS[name].setup()


def _build(loaded: Loaded, name: str) -> Training:
    found = _look_up(loaded, name)
    if (given := _taken(found)) is not None:
        return given
    place = f"{loaded.shown}:{name}"
    if not callable(found):
        msg = f"{place} is neither a function nor a Training but {_kind(found)}"
        raise TargetError(msg)
    _check_arguments(place, found)
    with running(f"{name}() of {loaded.shown}", loaded.file):
        result = found()
    if (made := _taken(result)) is None:
        msg = f"{place} must return an unstuck.Training, not {_kind(result)}{_hint(result)}"
        raise TargetError(msg)
    return made


def _taken(result: object) -> Training | None:
    return result if isinstance(result, Training) else training_in(result)


def _look_up(loaded: Loaded, name: str) -> object:
    missing = object()
    found = getattr(loaded.module, name, missing) if name else missing
    if found is missing:
        names = _candidates(loaded)
        said = f"has no '{name}'{_did_you_mean(name, names)}" if name else "needs a function after the colon"
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        has = f"it defines: {', '.join(names[:_MOST_NAMES])}{more}" if names else "it defines no function"
        msg = f"{loaded.shown} {said}; {has}"
        raise TargetError(msg)
    return found


def _candidates(loaded: Loaded) -> list[str]:
    """Names of what the module itself defines and could be meant."""
    return [
        name
        for name, value in vars(loaded.module).items()
        if not name.startswith("_")
        and (
            isinstance(value, Training)
            or (inspect.isfunction(value) and value.__module__ == loaded.module.__name__)
        )
    ]


def _check_arguments(place: str, function: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some callables written in C tell nothing about themselves
        return
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in optional]
    if needed:
        msg = (
            f"{place} needs arguments ({', '.join(needed)}): "
            "name a function that can be called without any, such as one that calls it"
        )
        raise TargetError(msg)


def _hint(result: object) -> str:
    if result is None:
        return ": did you forget `return`?"
    if isinstance(result, nn.Module):
        return ": return unstuck.Training(model=..., loss=..., data=..., optimizer=...)"
    if inspect.iscoroutine(result):
        result.close()  # else Python warns that it was never awaited
        return ": it must not be async"
    return ""


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _suggest_colon(target: str) -> str:
    if target.lstrip(":") in DEMOS:
        return f": did you mean 'demo:{target.lstrip(':')}'?"
    if target.endswith(".py"):
        return f": name a function that returns the training, as in '{target}:setup'"
    return ""


def _did_you_mean(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f", did you mean '{close[0]}'?" if close else ""
