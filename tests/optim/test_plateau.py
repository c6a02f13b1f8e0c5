import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unstuck import optim
from unstuck.optim import OptimizerError, Plateau, PlateauLR, constant, warmup

LR = 0.5
LOSSES = st.lists(st.one_of(st.floats(-2, 2), st.sampled_from([1.0, math.nan, math.inf])), max_size=60)


def sgd(lr=LR):
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


PLATEAUS = st.builds(
    Plateau,
    st.floats(0.05, 0.95),
    st.integers(0, 5),
    st.floats(0.0, 0.5),
    relative=st.booleans(),
    cooldown=st.integers(0, 4),
    least=st.floats(0.0, 0.3),
    eps=st.sampled_from([0.0, 1e-8, 0.1]),
)


@given(LOSSES, PLATEAUS)
@settings(deadline=None, derandomize=True)
def test_step_for_step_it_is_pytorchs(losses, plateau):
    ours, theirs = sgd(), sgd()
    scheduler = plateau.scheduler(ours)
    reference = ReduceLROnPlateau(
        theirs,
        factor=plateau.factor,
        patience=plateau.patience,
        threshold=plateau.threshold,
        threshold_mode="rel" if plateau.relative else "abs",
        cooldown=plateau.cooldown,
        min_lr=plateau.least * LR,
        eps=plateau.eps * LR,
    )
    for count, loss in enumerate(losses, 1):
        scheduler.step(loss)
        reference.step(loss)
        rate = theirs.param_groups[0]["lr"]
        assert ours.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)
        assert LR * plateau(losses[:count]) == pytest.approx(rate, rel=1e-12)
        assert scheduler.get_last_lr() == [ours.param_groups[0]["lr"]]


@given(LOSSES, st.integers(0, 60))
@settings(deadline=None, derandomize=True)
def test_its_state_is_plain_data_and_goes_on_from_anywhere(losses, cut):
    plateau = warmup(3).then(Plateau(0.5, 2, cooldown=1))
    through = sgd()
    scheduler = plateau.scheduler(through)
    for loss in losses[:cut]:
        scheduler.step(loss)
    file = io.BytesIO()
    torch.save({"optimizer": through.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = sgd(lr=123.0)
    resumed.load_state_dict(saved["optimizer"])
    again = plateau.scheduler(resumed)
    again.load_state_dict(saved["scheduler"])
    assert resumed.param_groups[0]["lr"] == through.param_groups[0]["lr"]
    for loss in losses[cut:]:
        scheduler.step(loss)
        again.step(loss)
        assert resumed.param_groups[0]["lr"] == through.param_groups[0]["lr"]


def test_after_a_warmup_only_the_losses_behind_it_are_counted():
    plateau = warmup(4).then(Plateau(0.1, patience=1))
    losses = [5.0, 4.0, 3.0, 0.0, 2.0, 2.0, 2.0]
    factors = [plateau(losses[:count]) for count in range(len(losses) + 1)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.1]
    again = eval(repr(plateau), vars(optim))  # noqa: S307 - our own text
    assert [again(losses[:count]) for count in range(len(losses) + 1)] == factors
    longer = warmup(2).then(constant().steps(2).then(plateau))
    assert [longer([1.0] * count) for count in range(6)] == [0.5, 1.0, 1.0, 1.0, 0.25, 0.5]


def test_steps_without_a_loss_count_as_steps_and_not_against_the_patience():
    plateau = warmup(4).then(Plateau(0.1, patience=0))
    assert plateau([None] * 4 + [1.0] + [None] * 100) == 1.0
    assert plateau([None] * 4 + [1.0] + [None] * 100 + [1.0]) == 0.1


def test_groups_keep_their_ratio_and_a_rate_in_a_tensor_its_tensor():
    rate = torch.tensor(0.4)
    groups = [
        {"params": [torch.zeros(1, requires_grad=True)], "lr": 0.1},
        {"params": [torch.zeros(1, requires_grad=True)]},
    ]
    optimizer = optim.Optimizer(groups, optim.adam(), lr=rate)
    scheduler = PlateauLR(optimizer, Plateau(0.5, 0))
    for _ in range(2):
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert optimizer.param_groups[1]["lr"].item() == pytest.approx(0.2)
    assert isinstance(optimizer.param_groups[1]["lr"], torch.Tensor)


def test_a_figure_shows_the_rate_after_every_loss():
    line = Plateau(0.5, 0).figure([1.0, 1.0, None, 1.0], lr=0.2).data[0]
    assert list(line.y) == [0.2, 0.2, 0.1, 0.1, 0.05]
    assert list(line.x) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Plateau(1.0), "`factor` lowers the rate: between 0 and 1, not 1.0"),
        (lambda: Plateau(patience=-1), "`patience` must be"),
        (lambda: Plateau(least=2.0), "`least` is a share of the rate"),
        (lambda: Plateau(before=constant()), r"constant\(1.0\) has no end that a plateau could follow"),
        (
            lambda: constant().then(Plateau()),
            r"constant\(1.0\) has no end that another schedule could follow",
        ),
        (
            lambda: Plateau().scheduler(sgd()).load_state_dict(ReduceLROnPlateau(sgd()).state_dict()),
            "not the state of a plateau schedule of unstuck.optim: it has factor",
        ),
    ],
)
def test_what_is_no_plateau_is_refused_in_one_line(make, words):
    with pytest.raises(OptimizerError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
