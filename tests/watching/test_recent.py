"""What the record says of the steps since the loss stands still."""

import math
from dataclasses import replace

import pytest

from unstuck.watching.recent import Wiring, recent
from unstuck.watching.sampled import Group, Sample


def sample(length, first=1.0):
    layers = {"0": Group(first, 10.0, 0.1), "2": Group(1.0, 10.0, 0.1)}
    return Sample(length, 10.0, 0.1, *[None] * 8, layers, ())


def summed(samples):
    numbered = [(number, float(number), one) for number, one in enumerate(samples, 1)]
    wired = Wiring(layers=("0", "2"))
    return recent(numbered, since=1, until=100, level=1.0, scale=1.0, first=samples[0], wired=wired)


def test_a_layer_that_has_died_since_the_loss_stands_still_is_silent():
    alive, dead = [sample(1.0)], [sample(1.0, first=0.0)]
    assert summed(3 * alive + 7 * dead).silent == ("0",)
    assert summed(7 * alive + 3 * dead).silent == ()
    assert summed(3 * alive + 6 * dead + alive).silent == ()


def test_gradients_of_one_length_are_clipped_though_the_bound_may_change():
    assert summed([sample(length) for length in (1.0, 1.0, 1.00001, 2.0, 2.0)]).clipped
    assert not summed([sample(length) for length in (1.0, 1.1, 0.9, 1.0, 1.2)]).clipped


def grown(then, now, step=0.1):
    first = Sample(1.0, then, 0.1, *[None] * 8, {"0": Group(1.0, then, step)}, ())
    last = Sample(1.0, now, 0.1, *[None] * 8, {"0": Group(1.0, now, 0.1)}, ())
    return summed([first, last])


def test_what_weights_have_grown_by_is_counted_up_to_where_the_loss_began_to_stand_still():
    lengths = [(3, 1.0), (10, 5.0), (40, 20.0), (90, 60.0)]
    samples = [(step, 0.0, Sample(1.0, length, 0.1, *[None] * 8, {}, ())) for step, length in lengths]

    def told(since, known=samples):
        return recent(known, since=since, until=100, level=1.0, scale=1.0, first=samples[0][2]).grown

    assert [told(since) for since in (1, 5, 40, 95)] == [1.0, 5.0, 20.0, None]
    assert told(5, samples[1:]) is None  # nobody knows any more
    assert told(20, samples[1:]) == 20.0


def test_weights_that_are_twice_as_long_or_were_made_anew_at_once_are_those_of_the_steps():
    assert grown(10.0, 25.0).driven == ("0",)
    assert grown(10.0, 15.0).driven == ()
    assert grown(10.0, 15.0, step=2.0).driven == ("0",)
    assert grown(0.0, 25.0).driven == ()


def test_the_first_step_is_remembered():
    assert summed([sample(1.0)]).first_share == pytest.approx(0.01)


def promising(gradient, overshoot):
    return replace(sample(gradient), descent_cosine=1.0, overshoot=overshoot)


def test_what_steps_do_of_late_is_asked_of_all_that_promise_as_much():
    few = [promising(1.0, value) for value in (-0.9, -0.8, -1.0, -1.1)]
    assert summed(few + few).lately.degrees == pytest.approx(7.0)
    # Where gradients have shrunk, what long ones did says nothing.
    before = [promising(1000.0, 1.0) for _ in few]
    assert summed(before + few).lately.value == pytest.approx(-0.95)


def test_a_gradient_that_weight_decay_holds_in_balance_promises_nothing():
    assert summed([sample(2.0)] * 4).reach == pytest.approx(20.0)
    assert summed([replace(sample(2.0), unbalanced=1e-3)] * 4).reach == pytest.approx(0.02)
    assert summed([replace(sample(2.0), unbalanced=50.0)] * 4).reach == pytest.approx(20.0)


def test_gradients_pile_up_where_each_is_added_to_the_one_before():
    assert summed([replace(sample(1.0), piled=True)] * 4).piled
    assert not summed([replace(sample(1.0), piled=True)] * 3 + [sample(1.0)]).piled


def ahead(*promises):
    """Samples of steps straight down a gradient, ten steps apart."""
    known = [
        (10 * number, 0.0, replace(sample(10.0 * promise), descent_cosine=1.0))
        for number, promise in enumerate(promises)
    ]
    return recent(known, since=0, until=100, level=1.0, scale=1.0).ahead


def test_promises_that_shrink_by_the_same_share_come_to_a_finite_sum_and_others_to_none_that_is_known():
    shrinking = [0.9**step for step in range(0, 60, 10)]
    assert ahead(*shrinking) == pytest.approx(shrinking[-1] / -math.log(0.9))
    assert ahead(*reversed(shrinking)) is None
    assert ahead(1.0, 1.1, 0.9, 1.0, 1.0, 0.95) is None  # noise
    assert ahead(1.0, 0.5, 0.25) is None  # too few
    assert ahead(*shrinking[:3], -1.0, *shrinking[3:]) is None
