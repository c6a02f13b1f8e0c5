"""Heights between known ones: against closed forms, and where nothing can be known."""

import numpy as np
import pytest
import torch

from unstuck.landscape import filling

SIDE = 9
PLACES = [(x, y) for x in range(SIDE) for y in range(SIDE)]
KNOWN = [place for place in PLACES if not (place[0] % 2 or place[1] % 2)]
REST = [place for place in PLACES if place not in KNOWN]


def heights(function, places):
    return np.array([[float(function(x / (SIDE - 1), y / (SIDE - 1)))] for x, y in places])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_paraboloid_is_known_everywhere_from_a_few_heights(scale):
    def bowl(x, y):
        return scale * (3.0 + x - 2.0 * y + x * x + x * y + 4.0 * y * y)

    guess = filling.guess(KNOWN, heights(bowl, KNOWN), REST, 2)
    assert guess.heights == pytest.approx(heights(bowl, REST), rel=1e-9)


def test_several_kinds_of_heights_are_predicted_side_by_side():
    def one(x, y):
        return np.sin(2.0 * x) + y

    both = np.hstack([heights(one, KNOWN), 100.0 * heights(one, KNOWN)])
    guess = filling.guess(KNOWN, both, REST, 2)
    assert guess.heights[:, :1] == pytest.approx(filling.guess(KNOWN, both[:, :1], REST, 2).heights)
    assert guess.heights[:, 1] == pytest.approx(100.0 * guess.heights[:, 0])


def test_of_a_surface_with_a_kink_there_is_more_doubt_than_of_a_smooth_one():
    def doubt(function):
        return np.median(filling.guess(KNOWN, heights(function, KNOWN), REST, 2).doubt)

    assert doubt(lambda x, y: abs(x - 0.4)) > 2.0 * doubt(lambda x, y: np.hypot(x - 0.4, 0.5))


@pytest.mark.parametrize("known", [[], [(0, 0)], [(0, 0), (8, 8)], [(x, 0) for x in range(9)]])
def test_from_too_few_places_or_places_on_a_line_nothing_is_predicted(known):
    assert filling.guess(known, np.zeros((len(known), 1)), REST, 2) is None


def test_the_most_doubtful_places_are_checked_and_others_at_random_each_once():
    doubt = np.linspace(0.0, 1.0, 200)
    guess = filling.Guess(np.zeros((200, 1)), doubt)
    chosen = guess.chosen(81, torch.Generator().manual_seed(0))
    other = guess.chosen(81, torch.Generator().manual_seed(1))
    assert len(chosen) == len(set(chosen)) == 32
    assert chosen[:16] == other[:16] == list(range(199, 183, -1))
    assert set(chosen[16:]) != set(other[16:])
    assert len(guess.chosen(360, torch.Generator())) == 60
    assert sorted(guess.chosen(5000, torch.Generator())) == list(range(200))


def test_a_surface_is_believed_as_long_as_what_it_allows_for_is_within_the_tolerance():
    assert filling.believed(1e-3, filling.PLANE)
    assert not filling.believed(1.001e-3, filling.PLANE)
    assert filling.allowance(1e-3) == pytest.approx(filling.PLANE)


def test_each_height_that_lies_on_a_polynomial_is_known_from_the_others_and_one_that_does_not_is_missed():
    known = [(place,) for place in (0, 3, 5, 9, 14, 20, 26, 32)]
    quartic = np.array([[1.0 - 0.2 * x + (x / 9.0 - 1.0) ** 4] for (x,) in known])
    assert np.abs(filling.missed(known, quartic, 4)).max() < 1e-9
    quartic[3] += 0.5
    assert filling.missed(known, quartic, 4)[2] == pytest.approx(-0.5)
    assert np.isinf(filling.missed(known[:5], quartic[:5], 4)).all()
