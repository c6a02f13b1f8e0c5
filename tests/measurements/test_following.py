"""What the time does not allow for is left out, and nothing half done is told."""

import math

import torch
from quadratics import judge_of, objective_of
from torch import nn

from unstuck import Training, supervised
from unstuck.curvature.vectors import Room
from unstuck.demos import DEMOS
from unstuck.measurements.bill import Bill
from unstuck.measurements.descent import onward
from unstuck.measurements.examination import Examination
from unstuck.measurements.known import Objectives
from unstuck.measurements.records import Sample
from unstuck.measurements.surveys import Limits
from unstuck.objective import Objective, draw
from unstuck.objective.ledger import Ledger


def examined(rest, training=None, left=600.0):
    """Examine the lecture's saddle; `rest` is asked how many seconds are left for what follows the products."""
    training = training or DEMOS["lecture"].setup()
    ledger = Ledger()
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    own = Objective(training, drawn.batches, ledger=ledger)
    precise = Objective(training, drawn.batches, ledger=ledger, dtype=torch.float64)
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive=True, stochastic=False, whole=True)
    room = Room.of(1e8, precise.theta, 64)
    limits = Limits(lambda: left, graphs=1e8, room=room, seed=0, rest=rest)
    found = Examination(training, Objectives(own, precise), sample, limits, Bill(ledger))
    found.run(lambda *_: None)
    return found.measured()


def test_with_time_the_escape_is_compared_with_plain_descent():
    measured = examined(lambda: 600.0)
    assert measured.complete
    assert {"escape", "control"} <= {route.name for route in measured.routes}


def test_without_time_no_escape_is_tried():
    measured = examined(lambda: 0.0)
    assert not measured.complete
    assert not {"escape", "control"} & {route.name for route in measured.routes}
    assert ("curvature", "the time was over") in [(each.name, each.reason) for each in measured.omitted]


def test_an_escape_whose_control_was_cut_short_is_not_told():
    asked = iter([600.0] * 8)  # enough to begin both
    measured = examined(lambda: next(asked, 0.0))
    assert not measured.complete
    assert not {"escape", "control"} & {route.name for route in measured.routes}


def test_without_time_what_the_optimizer_remembers_is_not_followed_and_going_on_is():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = list(zip(torch.randn(8, 16, 4), torch.randn(8, 16, 1), strict=True))
    loss = supervised(nn.functional.mse_loss)
    (1e4 * loss(model, data[0])).backward()  # of another scale
    optimizer.step()
    optimizer.zero_grad()
    training = Training(model, loss, data, optimizer)
    followed = examined(lambda: 600.0, training).second_moment
    assert followed is not None
    assert followed.steps > 0
    hasty = examined(lambda: 0.0, training, left=0.0)
    assert hasty.second_moment is None
    assert ("second_moment", "there was no time for it") in [(one.name, one.reason) for one in hasty.omitted]
    assert hasty.continuations is not None


def test_a_descent_ends_with_the_time_and_keeps_the_best():
    start = torch.tensor([1.0, 1.0]).double()
    objective = objective_of(lambda model, _: model.theta.square().sum() ** 2, start, [torch.zeros(1)])
    asked = iter([False] * 3)
    before = objective.ledger.examples
    route = onward("escape", judge_of(objective), torch.zeros(2).double(), start, lambda: next(asked, True))
    assert objective.ledger.examples - before < 5.0
    assert 0.0 < route.gain.value < 4.0
    assert math.isfinite(route.distance)
