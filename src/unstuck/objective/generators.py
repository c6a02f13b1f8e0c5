"""Random generators, global and owned: kept as they are, and seeded meanwhile."""

import pickle
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def generators_kept(owned: Sequence[Any] = ()) -> Generator[None]:
    """Put the global random generators, and the `owned` ones, back to their states afterwards."""
    put_back = remembered(owned)
    try:
        yield
    finally:
        put_back()


def remembered(owned: Sequence[Any] = ()) -> Callable[[], None]:
    """Remember the states of the global generators and the `owned` ones; give what puts them back to these."""
    states = [(generator, _get_state(generator)) for generator in owned]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if _cuda() else []

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        for generator, state in states:
            _set_state(generator, state)

    return put_back


def seed_everything(seed: int, owned: Sequence[Any] = ()) -> None:
    """Seed the global generators and the `owned` ones; only inside `generators_kept`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if _cuda():
        torch.cuda.manual_seed_all(seed)
    for generator in owned:
        _seed(generator, seed)


def states(owned: Sequence[Any] = ()) -> bytes:
    """Give the states of the global generators and the `owned` ones, to see whether anything was drawn."""
    held = [random.getstate(), np.random.get_state(), torch.get_rng_state(), *map(_get_state, owned)]
    if _cuda():
        held += torch.cuda.get_rng_state_all()
    return pickle.dumps(
        [state.numpy().tobytes() if isinstance(state, torch.Tensor) else state for state in held]
    )


def _cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % 2**32)
    else:
        generator.seed(seed)


def _get_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator | np.random.RandomState):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator | np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state
