import functools
import logging
import random
from collections import OrderedDict, deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unstuck.objective.borrowing import Borrowed, Copies
from unstuck.objective.generators import generators_kept, seed_everything
from unstuck.objective.reach import generators, modules, within

GLOBAL = {"drawn": random.Random(1)}  # noqa: S311


class Holder:
    def __init__(self, **things):
        self.__dict__.update(things)


def test_generators_are_found_wherever_code_may_hold_them():
    own = [torch.Generator() for _ in range(6)]

    def inner():
        return own[0]

    class Method:
        kept = own[1]  # of the class, not of the object

        def __init__(self):
            self.mine = own[2]

        def __call__(self):
            return GLOBAL

    held = Holder(
        a=[{"b": (own[3],)}], c=functools.partial(print, own[4]), d=Method().__call__, e=deque([own[5]])
    )
    found = generators(within(held, inner))
    assert {id(g) for g in (*own[:1], *own[2:], GLOBAL["drawn"])} <= {id(g) for g in found}


def test_a_model_is_walked_however_deep_it_is():
    model = functools.reduce(lambda inner, _: nn.Sequential(inner), range(60), nn.Linear(1, 1))
    assert len(modules(within(model))) == 61


def test_the_walk_ends_in_circles_and_keeps_out_of_what_is_installed():
    circle: list = []
    circle.append(circle)
    held = Holder(circle=circle, log=logging.getLogger(), loader=torch.utils.data.DataLoader([1]))
    found = within(held)
    assert circle in found
    assert logging.getLogger().handlers not in [thing for thing in found if isinstance(thing, list) and thing]
    assert not any(thing is held.loader.__dict__ for thing in found)
    assert any(thing is held.loader.__dict__ for thing in within(held, installed=True))


values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(content=st.dictionaries(st.sampled_from("abcdef"), values, min_size=1), data=st.data())
@settings(deadline=None, derandomize=True)
def test_whatever_is_done_to_containers_is_undone(content, data):
    held = Holder(**content)
    before = repr(vars(held))
    borrowed = Borrowed(within(held))
    for _ in range(3):
        reached = [thing for thing in within(held) if isinstance(thing, list | dict)]
        chosen = data.draw(st.sampled_from(reached))
        if isinstance(chosen, list):
            chosen.reverse()
            chosen.append(0)
        else:
            chosen.pop(next(iter(chosen), None), None)
            chosen["new"] = 1
    borrowed.restore()
    assert repr(vars(held)) == before


@pytest.mark.parametrize(
    "container",
    [[1, 2], {"a": 1}, {1, 2}, deque([1, 2], maxlen=3), OrderedDict(a=1), [], {}, set()],
    ids=repr,
)
def test_every_kind_of_container_is_put_back_as_the_same_object(container):
    held = Holder(container=container)
    before = repr(container)
    borrowed = Borrowed(within(held))
    container.clear()
    held.container = None
    held.other = 1
    borrowed.restore()
    assert held.container is container
    assert repr(container) == before
    assert not hasattr(held, "other")


def test_tensors_and_arrays_get_their_bits_back_and_are_not_written_on_when_nothing_changed():
    nan = torch.tensor([float("nan"), -0.0, 1.0])
    same, changed, array = nan.clone(), nan.clone(), np.arange(3.0)
    held = Holder(same=same, changed=changed, array=array, number=torch.tensor(2), empty=torch.zeros(0))
    borrowed = Borrowed(within(held))
    version = same._version
    changed.zero_()
    held.number.add_(1)
    array[:] = 7
    borrowed.restore()
    assert same._version == version
    assert torch.equal(changed.view(torch.int32), nan.view(torch.int32))
    assert held.number == 2
    assert array.tolist() == [0.0, 1.0, 2.0]


def test_variables_of_closures_are_put_back():
    steps = 0

    def step():
        nonlocal steps
        steps += 1

    borrowed = Borrowed(within(step))
    step()
    borrowed.restore()
    assert steps == 0


def test_a_buffer_that_hangs_in_two_places_is_one_in_its_copy_too():
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second.running_mean = first.running_mean
    Copies([first, second], dtype=None).place()
    assert first.running_mean is second.running_mean
    first.running_mean.add_(1)
    assert bool((second.running_mean == 1).all())


def test_owned_and_global_generators_are_seeded_and_kept():
    owned = [torch.Generator(), np.random.default_rng(1), np.random.RandomState(1), random.Random(1)]  # noqa: S311
    every = [*owned, None]

    def numbers():
        return [
            torch.rand(1, generator=owned[0]).item(),
            owned[1].random(),
            owned[2].rand(),
            owned[3].random(),
            torch.rand(1).item(),
            np.random.rand(),
            random.random(),  # noqa: S311
        ]

    with generators_kept(owned):
        expected = numbers()
    seeded = []
    for seed in (7, 7, 8):
        with generators_kept(owned):
            seed_everything(seed, owned)
            seeded.append(numbers())
    assert seeded[0] == seeded[1]
    assert all(a != b for a, b in zip(seeded[1], seeded[2], strict=True))
    with generators_kept(every[:-1]):
        assert numbers()[:4] == expected[:4]
