import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck import Training
from unstuck.errors import MeasurementError
from unstuck.findings.data import uninformative
from unstuck.measurements.data.pairs import measure_pairs
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Objective, draw


class Towers(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.other = nn.Linear(12, width), nn.Linear(12, width)
        self.scale = nn.Parameter(torch.tensor(1.6))


def contrastive(model, batch):
    one, other = functional.normalize(model.one(batch[0])), functional.normalize(model.other(batch[1]))
    return functional.cross_entropy(one @ other.T * model.scale.exp(), torch.arange(len(one)))


def by_scores(model, batch):
    return functional.softplus(model.other(batch[1]) - model.one(batch[0])).mean()


def by_kernels(model, batch):
    one, other = model.one(batch[0]), model.other(batch[1])
    return (
        torch.cdist(one, one).mean() + torch.cdist(other, other).mean() - 2.0 * torch.cdist(one, other).mean()
    )


def look(loss, *, paired, width=6):
    torch.manual_seed(0)
    hidden = torch.randn(320, 3)
    mine, theirs = (hidden @ torch.randn(3, 12) + 0.5 * torch.randn(320, 12) for _ in range(2))
    theirs = theirs if paired else theirs[torch.randperm(320)]
    data = list(zip(mine.split(64), theirs.split(64), strict=True))
    training = Training(Towers(width), loss, data)
    drawn = draw(data, seed=0, enough=lambda *_: False).batches
    objective = Objective(training, drawn)
    judge = Judge(objective, Halves.of(len(drawn), exhaustive=True), objective.values(objective.theta))
    return measure_pairs(training, judge, seed=0)


def test_sides_of_a_contrastive_loss_that_belong_together_tell_of_each_other():
    found = look(contrastive, paired=True)
    assert found.tests == ("inputs",)
    assert uninformative(found) is None


def test_sides_that_were_permuted_apart_are_named():
    found = look(contrastive, paired=False)
    assert found.tests == ("inputs", "trained copy")
    assert (finding := uninformative(found)) is not None
    assert finding.confidence == 0.9


@pytest.mark.parametrize(("loss", "width"), [(by_scores, 1), (by_kernels, 6)])
def test_scores_and_whole_batches_need_no_pairs(loss, width):
    with pytest.raises(MeasurementError, match="example by example"):
        look(loss, paired=False, width=width)
