import pytest
import torch
from torch import nn

from unstuck import Training, supervised
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.model.sight import measure_sight
from unstuck.measurements.records.sight import Sight
from unstuck.objective import Objective, draw

CROSS_ENTROPY = supervised(nn.CrossEntropyLoss())


class Part(nn.Module):
    def __init__(self, see):
        super().__init__()
        self.see, self.layer = see, nn.LazyLinear(3)

    def forward(self, x):
        return self.layer(self.see(x))


def look(see, loss=CROSS_ENTROPY):
    torch.manual_seed(0)
    x = torch.randn(40, 6)
    x[:, 0] = 1.0
    model = Part(see)
    model(x)
    data = [(x, torch.randint(0, 3, (40,)))]
    training = Training(model, loss, data)
    objective = Objective(training, draw(data, seed=0, enough=lambda *_: False).batches)
    judge = Judge(objective, Halves.of(1, exhaustive=True), objective.values(objective.theta))
    return measure_sight(training, judge, seed=0)


@pytest.mark.parametrize(
    ("see", "unseen", "unheeded"),
    [
        (lambda x: x, 0, 0),
        (lambda x: x[:, :4], 2, 0),
        (lambda x: x[-1:].expand(len(x), -1), 0, 39),
    ],
)
def test_what_is_cut_off_from_all_outputs_is_counted(see, unseen, unheeded):
    assert look(see) == Sight(5, unseen, 40, unheeded)


def test_inputs_that_are_targets_too_are_not_asked():
    def copied(model, batch):
        return (model(batch[0])[:, :1] - batch[0][:, :1]).square().mean()

    assert look(lambda x: x, copied) is None
