from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, TensorDataset
from zoo import batches

from unstuck.objective import Batch, draw
from unstuck.objective.affordable import further
from unstuck.objective.sampling import Draw, count_examples, describe, moved, repeated, tensors, total_bytes

Pair = namedtuple("Pair", ["x", "y"])


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), wanted=st.integers(1, 8))
@settings(deadline=None, derandomize=True)
def test_as_many_batches_are_drawn_as_are_enough_and_it_is_known_whether_that_was_all(sizes, wanted):
    drawn = draw(batches(*sizes), seed=5, enough=lambda count, _: count >= wanted)
    assert [batch.examples for batch in drawn.batches] == sizes[:wanted]
    assert drawn.examples == sum(sizes[:wanted])
    assert drawn.exhausted == (wanted >= len(sizes))
    assert [batch.seed for batch in drawn.batches] == [5 + index for index in range(len(drawn.batches))]


def test_the_same_seed_draws_the_same_batches():
    data = torch.utils.data.DataLoader(torch.arange(20), batch_size=4, shuffle=True)
    first, again, other = (draw(data, seed=seed, enough=lambda *_: False) for seed in (1, 1, 2))
    same = [torch.equal(a.content, b.content) for a, b in zip(first.batches, again.batches, strict=True)]
    assert all(same)
    assert not all(
        torch.equal(a.content, b.content) for a, b in zip(first.batches, other.batches, strict=True)
    )


@pytest.mark.parametrize(
    ("content", "examples"),
    [
        (torch.zeros(7, 2), 7),
        ((torch.zeros(5, 2), torch.zeros(5)), 5),
        ({"input_ids": torch.zeros(3, 9), "labels": torch.zeros(3, 9)}, 3),
        ({"scale": torch.tensor(1.0), "x": torch.zeros(4)}, 4),
        ([np.zeros((6, 2)), 1], 6),
        (SimpleNamespace(x=torch.zeros(8, 1)), 8),
        (3, 1),
        ("words", 1),
        (pack_sequence([torch.zeros(3, 2), torch.zeros(2, 2), torch.zeros(2, 2)]), 3),
        ((pack_sequence([torch.zeros(3, 2), torch.zeros(2, 2)]), torch.zeros(2)), 2),
        (([torch.zeros(5), torch.zeros(3), torch.zeros(9), torch.zeros(1)], torch.zeros(4)), 4),
        (
            (
                [torch.zeros(3, 8, 6), torch.zeros(3, 5, 9)],
                [{"boxes": torch.zeros(7, 4)}, {"boxes": torch.zeros(1, 4)}],
            ),
            2,
        ),
        ({"pixels": [torch.zeros(3, 4, 4)] * 5, "labels": [torch.zeros(k) for k in (1, 2, 1, 4, 1)]}, 5),
        ([torch.zeros(4), torch.zeros(6), torch.zeros(5)], 3),
        ((0, (torch.zeros(9, 3), torch.zeros(9, dtype=torch.int64), torch.zeros(5, 2))), 9),
        ((torch.zeros(32, 3), [torch.zeros(32, 1), torch.zeros(32, 5)]), 32),
        ([[torch.zeros(32, 3), torch.zeros(32, 1)], [torch.zeros(32)]], 32),
    ],
)
def test_examples_are_counted_in_lists_of_them_or_along_the_first_dimension_of_a_tensor(content, examples):
    assert count_examples(content) == examples


def test_moving_a_batch_keeps_its_structure_and_casts_only_its_floating_tensors():
    content = {
        "pair": Pair(torch.zeros(2), torch.zeros(2, dtype=torch.int64)),
        "list": [torch.ones(1), "text", None],
        "nested": OrderedDict(x=(torch.ones(1),)),
    }
    wide = moved(content, torch.device("cpu"), torch.float64)
    assert isinstance(wide["pair"], Pair)
    assert (wide["pair"].x.dtype, wide["pair"].y.dtype) == (torch.float64, torch.int64)
    assert wide["list"][0].dtype == torch.float64
    assert wide["list"][1:] == ["text", None]
    assert isinstance(wide["nested"], OrderedDict)
    assert wide["nested"]["x"][0].dtype == torch.float64
    assert content["pair"].x.dtype == torch.float32


def test_a_copy_shares_neither_memory_nor_containers():
    inner = torch.ones(2, requires_grad=True)
    content = {"x": [inner], "y": np.ones(2)}
    copied = moved(content, copy=True)
    copied["x"][0].detach().zero_()
    copied["y"][:] = 0
    copied.pop("x")
    assert bool(content["x"][0].all())
    assert content["y"].all()
    assert moved(content, copy=True)["x"][0].requires_grad


@dataclass(frozen=True, slots=True)
class Sentences:
    tokens: torch.Tensor
    lengths: list[torch.Tensor]


def test_of_a_batch_that_is_an_object_with_names_for_its_parts_these_are_moved_and_shared_with_no_copy():
    content = [Sentences(torch.zeros(3), [torch.ones(3, dtype=torch.int64)])]
    (wide,) = moved(content, dtype=torch.float64, copy=True)
    assert isinstance(wide, Sentences)
    assert (wide.tokens.dtype, wide.lengths[0].dtype) == (torch.float64, torch.int64)
    wide.lengths[0].zero_()
    assert bool(content[0].lengths[0].all())
    assert [len(tensor) for tensor in tensors(content)] == [3, 3]


def test_turns_of_one_batch_stand_side_by_side_with_seeds_of_their_own():
    drawn = Draw((Batch("a", 2, 0), Batch("b", 1, 1)), exhausted=True)
    again = repeated(drawn, 5)
    assert [(batch.content, batch.seed) for batch in again.batches] == [
        ("a", 0),
        ("a", 2),
        ("a", 4),
        ("b", 1),
        ("b", 3),
        ("b", 5),
    ]
    assert again.exhausted


def test_what_comes_behind_a_sample_is_drawn_unless_other_data_come():
    data = DataLoader(TensorDataset(torch.arange(40.0)), batch_size=4, shuffle=True)
    whole = draw(data, seed=3, enough=lambda *_: False).batches
    rest = {"seed": 3, "most": 5, "room": 1e9, "until": lambda: False}
    found = further(whole[:4], data, **rest)
    assert [each.content[0].tolist() for each in found] == [each.content[0].tolist() for each in whole[4:9]]
    assert [each.seed for each in found] == [each.seed for each in whole[4:9]]
    assert len(further(whole[:4], data, **rest | {"room": 32.0})) == 2
    assert len(further(whole[:4], data, **rest | {"until": lambda: True})) == 1
    for nothing in ({"room": 0.0}, {"room": -5.0}, {"seed": 4}):
        assert further(whole[:4], data, **rest | nothing) == ()
    assert further(whole, data, **rest) == ()


def test_a_batch_is_described_and_measured():
    content = {"x": torch.zeros(2, 3), "pair": (torch.zeros(1, dtype=torch.int64), 4)}
    assert describe(content) == "{x: float32[2, 3], pair: (int64[1], int)}"
    assert total_bytes(content) == 2 * 3 * 4 + 8
