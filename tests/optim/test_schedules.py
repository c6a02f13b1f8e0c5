import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from unstuck import optim
from unstuck.optim import (
    Optimizer,
    OptimizerError,
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    one_cycle,
    polynomial,
    rectified_warmup,
    restarts,
    scaled,
    scaled_by_root,
    step_decay,
    warmup,
    warmup_stable_decay,
)


def optimizer():
    return Optimizer([torch.zeros(1, requires_grad=True)], optim.gradient_descent(), lr=0.1)


def rates(make, steps):
    stepped = optimizer()
    scheduler = make(stepped)
    seen = []
    for _ in range(steps):
        seen.append(stepped.param_groups[0]["lr"])
        stepped.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        (warmup(40, start=0.25), lambda o: lr_scheduler.LinearLR(o, 0.25 + 0.75 / 40, 1.0, total_iters=39)),
        (cosine(100), lambda o: lr_scheduler.CosineAnnealingLR(o, 100)),
        (cosine(100, end=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 100, eta_min=0.01)),
        (polynomial(100, power=2.0), lambda o: lr_scheduler.PolynomialLR(o, 100, power=2.0)),
        (step_decay(30, factor=0.5), lambda o: lr_scheduler.StepLR(o, 30, gamma=0.5)),
        (exponential(0.97), lambda o: lr_scheduler.ExponentialLR(o, 0.97)),
        (restarts(10, 4), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, T_mult=2)),
    ],
    ids=lambda value: None if callable(value) and not hasattr(value, "figure") else str(value),
)
def test_schedules_that_pytorch_has_are_the_same(schedule, theirs):
    ours = rates(lambda o: lr_scheduler.LambdaLR(o, schedule), 100)
    assert ours == pytest.approx(rates(theirs, 100), rel=1e-9, abs=1e-12)


def test_a_schedule_follows_another_at_its_end():
    schedule = warmup(4).then(constant().steps(2)).then(polynomial(4))
    assert [schedule(step) for step in range(12)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert [warmup_stable_decay(4, 2, 4)(step) for step in range(12)] == [
        schedule(step) for step in range(12)
    ]


def test_the_transformers_schedule_has_its_peak_at_the_end_of_the_warmup():
    schedule = warmup(400).then(inverse_sqrt(400))
    published = [min((step + 1) ** -0.5, (step + 1) * 400**-1.5) * 400**0.5 for step in range(5000)]
    # What follows counts from 0, so that the peak is held for one step more than it is there.
    assert [schedule(step) for step in range(400)] == pytest.approx(published[:400])
    assert [schedule(step) for step in range(401, 5000)] == pytest.approx(published[400:-1], rel=1e-12)


def test_one_cycle_rises_to_the_rate_and_falls_to_the_end():
    schedule = one_cycle(100, rise=0.25, start=0.1, end=0.01)
    values = [schedule(step) for step in range(101)]
    assert (values[0], values[25], values[100]) == pytest.approx((0.1, 1.0, 0.01))
    assert values[:26] == sorted(values[:26])
    assert values[25:] == sorted(values[25:], reverse=True)


def test_the_warmup_of_radam_makes_adam_of_it():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    radam = Optimizer([one], optim.radam(eps=0.0), lr=0.1)
    adam = Optimizer([other], optim.adam(eps=0.0), lr=0.1)
    schedule = rectified_warmup()
    # Where the scale is not known, RAdam goes on by momentum alone: a zero rate here.
    for step in range(200):
        adam.param_groups[0]["lr"] = 0.1 * schedule(step)
        radam.param_groups[0]["lr"] = 0.1 if schedule(step) > 0.0 else 0.0
        one.grad = torch.randn(3, dtype=torch.float64, generator=generator)
        other.grad = one.grad.clone()
        radam.step()
        adam.step()
    assert torch.allclose(one, other, rtol=1e-12, atol=0.0)


def test_a_schedulers_checkpoint_is_plain_data_and_goes_on():
    schedule = warmup(5).then(cosine(20))
    through, resumed = optimizer(), optimizer()
    scheduler = lr_scheduler.LambdaLR(through, schedule)
    again = lr_scheduler.LambdaLR(resumed, schedule)
    through.step()
    for _ in range(7):
        scheduler.step()
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    resumed.step()
    scheduler.step()
    again.step()
    assert through.param_groups[0]["lr"] == resumed.param_groups[0]["lr"] == 0.1 * schedule(8)


ENDING = st.one_of(
    st.builds(warmup, st.integers(1, 50), start=st.floats(0, 1)),
    st.builds(cosine, st.integers(1, 50), end=st.floats(0, 1)),
    st.builds(polynomial, st.integers(1, 50), power=st.floats(0.1, 5), end=st.floats(0, 1)),
    st.builds(restarts, st.integers(1, 20), st.integers(1, 4)),
    st.builds(lambda steps: one_cycle(steps, rise=0.5), st.integers(2, 50)),
    st.builds(lambda factor, steps: exponential(factor).steps(steps), st.floats(0.1, 1), st.integers(1, 50)),
)


@given(ENDING, ENDING, st.integers(0, 300))
def test_of_two_schedules_the_second_counts_from_the_end_of_the_first_and_then_stays(one, other, step):
    both = one.then(other)
    assert both.length == one.length + other.length
    assert both(step) == (one(step) if step < one.length else other(step - one.length))
    assert both(step) <= 1.0 + 1e-12
    assert both(step) >= 0.0
    assert both(both.length + step) == both(both.length)
    assert eval(repr(both), vars(optim))(step) == both(step)  # noqa: S307 - our own text


def test_rates_scale_with_the_batch_linearly_or_with_its_root():
    assert scaled(0.1, batch=8192, reference=256) == pytest.approx(3.2)
    assert scaled_by_root(0.001, batch=1024, reference=256) == pytest.approx(0.002)


def test_the_root_rule_keeps_the_noise_of_adagrads_walk():
    """Noise alone, averaged over a batch: after as many examples the weights have spread as far."""
    generator = torch.Generator().manual_seed(0)

    def spread(batch, lr):
        theta = torch.zeros(20_000, dtype=torch.float64, requires_grad=True)
        stepped = Optimizer([theta], optim.rmsprop_from_first(0.9), lr=lr)
        for _ in range(1600 // batch):
            theta.grad = torch.randn(20_000, dtype=torch.float64, generator=generator) / batch**0.5
            stepped.step()
        return theta.detach().std().item()

    alone = spread(4, 0.01)
    assert spread(64, scaled_by_root(0.01, batch=64, reference=4)) == pytest.approx(alone, rel=0.15)
    assert spread(64, scaled(0.01, batch=64, reference=4)) > 3.0 * alone


def test_a_figure_shows_the_rate_at_every_step_of_a_short_schedule():
    line = warmup(4).then(cosine(10)).figure(lr=0.5).data[0]
    assert list(line.x) == list(range(15))
    assert line.y[3] == 0.5
    assert line.y[-1] == 0.0
    assert len(constant().figure(100_000).data[0].x) == 1001


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: warmup(0), "`steps` must be a whole number of at least 1, not 0"),
        (lambda: warmup(5, start=2.0), "`start` is a share of the rate"),
        (lambda: cosine(-1), "`steps`"),
        (lambda: exponential(0.0), "`factor` must be a positive"),
        (lambda: polynomial(5, power=math.nan), "`power`"),
        (lambda: constant(-1.0), "`factor`"),
        (lambda: rectified_warmup(1.0), "`beta`"),
        (lambda: one_cycle(1), "`steps"),
        (
            lambda: constant().then(cosine(5)),
            r"constant\(1.0\) has no end that another schedule could follow",
        ),
        (lambda: constant().figure(), "say how many `steps` to draw"),
        (lambda: cosine(5)(-1), "`step` counts from 0, not -1"),
        (lambda: scaled(0.1, batch=0, reference=1), "`batch`"),
        (lambda: scaled_by_root(0.1, batch=1, reference=0), "`reference`"),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_line(make, words):
    with pytest.raises(OptimizerError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
