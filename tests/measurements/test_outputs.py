import math

import pytest
import torch
from tests.objective.fingerprint import unchanged
from torch import nn
from torch.nn import functional

from unstuck import Training, supervised
from unstuck.errors import MeasurementError
from unstuck.findings.data import mismatch
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.loss.outputs import measure_outputs
from unstuck.objective import Objective, draw

DRAWN = torch.Generator().manual_seed(0)
X = torch.randn(96, 8, generator=DRAWN)
CLASSES = torch.arange(96) % 4
QUANTITY = X[:, 0] + 0.1 * torch.randn(96, generator=DRAWN)
BITS = (X[:, 0] > 0).float()
ONE_HOT = functional.one_hot(CLASSES, 4).float()


class Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze(-1)


def network(outputs, *ends):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, outputs), *ends)


class Rows(nn.Module):
    """Shifts every fourth row so that its exponentials sum to one."""

    def forward(self, rows):
        sums = torch.logsumexp(rows, 1, keepdim=True)
        return torch.where(torch.arange(len(rows))[:, None] % 4 == 0, rows - sums, rows)


def look(model, loss, targets, size=32):
    data = list(zip(X.split(size), targets.split(size), strict=True))
    loss = loss if not isinstance(loss, nn.Module) else supervised(loss)
    training = Training(model, loss, data, torch.optim.Adam(model.parameters()))
    batches = draw(data, seed=0, enough=lambda *_: False).batches
    objective = Objective(training, batches)
    judge = Judge(objective, Halves.of(len(batches), exhaustive=False), objective.values(objective.theta))
    with unchanged(training):
        return measure_outputs(training, judge)


def of_output(criterion):
    return lambda model, batch: criterion(model(batch[0]), batch[1])


def huber(error):
    return torch.where(error.abs() < 1, 0.5 * error**2, error.abs() - 0.5).mean()


def focal(outputs, classes):
    p = outputs.softmax(1).gather(1, classes[:, None]).clamp(min=1e-8)
    return ((1 - p) ** 2 * -p.log()).mean()


FITTING = {
    "cross-entropy": (network(4), nn.CrossEntropyLoss(), CLASSES),
    "label smoothing": (network(4), nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES),
    "log-softmax twice": (network(4, nn.LogSoftmax(1)), nn.CrossEntropyLoss(), CLASSES),
    "log-likelihood": (network(4, nn.LogSoftmax(1)), nn.NLLLoss(), CLASSES),
    "softmax, then log": (
        network(4, nn.Softmax(1)),
        of_output(lambda p, y: functional.nll_loss(torch.log(p + 1e-8), y)),
        CLASSES,
    ),
    "sigmoid and its criterion": (network(1, nn.Sigmoid(), Squeeze()), nn.BCELoss(), BITS),
    "logits and theirs": (network(1, Squeeze()), nn.BCEWithLogitsLoss(), BITS),
    "softmax of one-hot targets": (network(4, nn.Softmax(1)), nn.BCELoss(), ONE_HOT),
    "Brier score": (network(4, nn.Softmax(1)), nn.MSELoss(), ONE_HOT),
    "divergence": (network(4, nn.LogSoftmax(1)), nn.KLDivLoss(reduction="batchmean"), ONE_HOT * 0.9 + 0.025),
    "squares": (network(1), nn.MSELoss(), QUANTITY[:, None]),
    "positive quantities of a ReLU": (network(1, nn.ReLU()), nn.L1Loss(), QUANTITY[:, None] + 9.0),
    "absolute errors of a sigmoid": (network(8, nn.Sigmoid()), nn.L1Loss(), torch.sigmoid(X)),
    "counts": (
        network(1, nn.Softplus()),
        nn.PoissonNLLLoss(log_input=False),
        torch.poisson(torch.full((96, 1), 3.0), generator=DRAWN),
    ),
    "a density": (
        network(2),
        of_output(
            lambda o, y: functional.gaussian_nll_loss(o[:, :1], y, functional.softplus(o[:, 1:]) + 0.01)
        ),
        QUANTITY[:, None],
    ),
    "signs of a tanh": (network(1, nn.Tanh(), Squeeze()), nn.MSELoss(), 2 * BITS - 1),
    "capped logits": (
        network(4),
        of_output(lambda o, y: functional.cross_entropy(30 * torch.tanh(o / 30), y)),
        CLASSES,
    ),
    "several quantiles of one target": (
        network(3),
        of_output(lambda o, y: torch.maximum(0.9 * (y - o), 0.1 * (o - y)).mean()),
        QUANTITY[:, None],
    ),
    "a cross-entropy of bits, written out": (
        network(1, nn.Sigmoid(), Squeeze()),
        of_output(lambda p, y: -(y * torch.log(p + 1e-7) + (1 - y) * torch.log(1 - p + 1e-7)).mean()),
        BITS,
    ),
    "a focal loss, written out": (network(4), of_output(focal), CLASSES),
    "a Huber loss, written out": (network(1), of_output(lambda o, y: huber(o - y)), QUANTITY[:, None]),
    "a softmax, written out": (
        network(4),
        of_output(lambda o, y: functional.nll_loss((o.exp() / o.exp().sum(1, keepdim=True) + 1e-8).log(), y)),
        CLASSES,
    ),
    "overlaps, written out": (
        network(1, nn.Sigmoid(), Squeeze()),
        of_output(lambda p, y: 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)),
        BITS,
    ),
    "a gated output": (
        network(2, nn.GLU(), Squeeze()),
        of_output(lambda o, y: (o - y).cosh().log().mean()),
        QUANTITY,
    ),
}


@pytest.mark.parametrize("name", FITTING)
def test_outputs_that_fit_are_never_blamed(name):
    outputs = look(*FITTING[name])
    assert mismatch(outputs) is None
    assert outputs.share < 0.1


def test_the_floor_of_cross_entropy_of_probabilities_is_the_closed_form():
    for classes in (2, 4):
        targets = CLASSES % classes
        for end in (nn.Softmax(1), nn.Sigmoid()):
            outputs = look(network(classes, end), nn.CrossEntropyLoss(), targets)
            floor = math.log(1.0 + (classes - 1) / math.e)
            assert outputs.built == pytest.approx(floor, rel=1e-3)
            assert outputs.free < 0.01
            assert "logits" in mismatch(outputs).advice


def test_where_the_probabilities_are_made_does_not_matter():
    def loss(model, batch):
        raised = model(batch[0]).exp()
        return functional.cross_entropy(raised / raised.sum(1, keepdim=True), batch[1])

    floor = math.log(1.0 + 3.0 / math.e)
    for each in (loss, of_output(lambda o, y: functional.cross_entropy(o.softmax(-1), y))):
        outputs = look(network(4), each, CLASSES)
        assert outputs.built == pytest.approx(floor, rel=1e-3)
        assert mismatch(outputs) is not None


def test_the_floor_of_a_sigmoid_in_a_sigmoid_is_the_closed_form():
    outputs = look(network(1, nn.Sigmoid(), Squeeze()), nn.BCEWithLogitsLoss(), BITS, size=96)
    share = float(BITS.mean())
    assert outputs.built == pytest.approx(
        share * math.log1p(math.exp(-1)) + (1 - share) * math.log(2), rel=1e-3
    )
    assert "sigmoid" in mismatch(outputs).explanation


def test_the_floor_of_a_relu_is_the_mean_square_of_negative_targets():
    outputs = look(network(1, nn.ReLU()), nn.MSELoss(), QUANTITY[:, None] - 1.0, size=96)
    assert outputs.built == pytest.approx(float((QUANTITY - 1.0).clamp(max=0.0).square().mean()), rel=1e-3)
    assert "`relu`" in mismatch(outputs).explanation


@pytest.mark.parametrize(
    "error", [lambda o, y: huber(o - y), lambda o, y: torch.maximum(0.5 * (y - o), -0.5 * (y - o)).mean()]
)
def test_a_loss_that_uses_its_errors_twice_has_the_floor_of_what_outputs_cannot_reach(error):
    outputs = look(network(1, nn.ReLU()), of_output(error), QUANTITY[:, None] - 1.0, size=96)
    targets = (QUANTITY[:, None] - 1.0).clamp(max=0.0)
    assert outputs.built == pytest.approx(float(error(torch.zeros_like(targets), targets)), rel=2e-2)
    assert "`relu`" in mismatch(outputs).explanation


def test_columns_against_rows_have_the_variance_of_the_targets_as_floor():
    for criterion in (nn.MSELoss(), of_output(lambda o, y: (o - y).square().mean())):
        with pytest.warns(UserWarning, match="broadcast") if isinstance(criterion, nn.Module) else _nothing():
            outputs = look(network(1), criterion, QUANTITY, size=96)
        assert outputs.misfit == "broadcast"
        assert outputs.built == pytest.approx(float(QUANTITY.var(unbiased=False)), rel=1e-3)
        assert "squeeze" in mismatch(outputs).advice


def _nothing():
    return torch.enable_grad()


@pytest.mark.parametrize(
    ("model", "loss", "misfit"),
    [
        (network(4, nn.Softmax(1)), nn.NLLLoss(), "probabilities"),
        (network(4), nn.NLLLoss(), "unnormalised"),
        (network(4, nn.LogSoftmax(0)), nn.NLLLoss(), "unnormalised"),
    ],
)
def test_a_likelihood_of_what_is_no_logarithm_is_named(model, loss, misfit):
    outputs = look(model, loss, CLASSES)
    assert outputs.misfit == misfit
    assert "log_softmax" in mismatch(outputs).advice


def test_a_row_that_comes_near_to_log_probabilities_by_chance_makes_none_of_the_others():
    ends = nn.Sequential(nn.LogSoftmax(0), Rows())
    assert look(network(4, ends), nn.NLLLoss(), CLASSES).misfit == "unnormalised"

    def masked(outputs, y):
        return functional.nll_loss((torch.arange(len(y)) % 3 == 0)[:, None] * outputs, y)

    assert not look(network(4, nn.LogSoftmax(1)), of_output(masked), CLASSES).misfit


def test_a_softmax_over_the_wrong_axis_or_over_one_unit_is_found():
    assert mismatch(look(network(4, nn.Softmax(0)), nn.CrossEntropyLoss(), CLASSES))
    assert mismatch(look(network(1, nn.Softmax(1)), nn.BCELoss(), BITS[:, None]))


SOFT = torch.softmax(torch.randn(96, 4, generator=DRAWN), 1)


@pytest.mark.parametrize("softened", [0.1, 0.5])
def test_the_floor_of_smoothed_labels_is_their_entropy_and_one_output_for_all_has_that_of_their_mean(
    softened,
):
    found = look(network(4), nn.CrossEntropyLoss(label_smoothing=softened), CLASSES)
    right, wrong = 1.0 - 0.75 * softened, 0.25 * softened
    entropy = -right * math.log(right) - 3.0 * wrong * math.log(wrong)
    assert found.floor == pytest.approx(entropy, rel=1e-4)
    assert found.blind == pytest.approx(math.log(4.0), rel=1e-4)
    assert found.room == pytest.approx(found.loss - entropy, rel=1e-3)
    assert not found.learnt


def test_one_output_for_all_is_looked_for_where_something_leads_down_and_not_only_at_a_mean_that_has_run_wild():
    model = network(1)
    with torch.no_grad():
        model[-1].bias.fill_(-1e3)
    squares = of_output(lambda outputs, y: (outputs[:, 0].sigmoid() - y).square().mean())
    assert look(model, squares, BITS, size=96).blind == pytest.approx(
        float(BITS.var(unbiased=False)), rel=1e-3
    )


def test_the_floor_of_soft_targets_is_the_mean_of_their_entropies():
    found = look(network(4), nn.CrossEntropyLoss(), SOFT, size=96)
    assert found.floor == pytest.approx(float(torch.special.entr(SOFT).sum(1).mean()), rel=1e-4)


def penalised(model, batch):
    loss = functional.cross_entropy(model(batch[0]), batch[1])
    return loss + sum(parameter.square().sum() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropyLoss(), CLASSES),
        (penalised, CLASSES),
        (of_output(lambda outputs, y: functional.mse_loss(outputs[:, 0], y)), QUANTITY),
        (
            of_output(lambda outputs, y: functional.gaussian_nll_loss(outputs[:, 0], y, outputs[:, 1].exp())),
            QUANTITY,
        ),
    ],
    ids=["classes", "a penalty of parameters", "squares", "a density"],
)
def test_what_outputs_or_parameters_could_bring_to_nothing_has_no_floor(loss, targets):
    found = look(network(4), loss, targets)
    assert found.floor is None
    assert found.room is None


@pytest.mark.parametrize(("off", "learnt"), [(0.0, True), (1e-3, True), (1.0, False)])
def test_near_a_floor_all_is_learnt(off, learnt):
    torch.manual_seed(1)
    model = nn.Linear(8, 4)
    targets = model(X).softmax(1).detach()
    with torch.no_grad():
        model.weight.add_(off * torch.randn(4, 8))
    found = look(model, nn.CrossEntropyLoss(), targets)
    assert found.learnt is learnt
    assert (found.room is None) is learnt


def test_dead_outputs_are_no_floor():
    model = network(1, nn.ReLU())
    with torch.no_grad():
        model[2].bias.fill_(-100.0)
    outputs = look(model, nn.MSELoss(), QUANTITY[:, None] + 9.0)
    assert outputs.share < 0.01


def test_a_loss_without_targets_is_left_out():
    with pytest.raises(MeasurementError):
        look(network(1), lambda model, batch: sum(p.square().sum() for p in model.parameters()), QUANTITY)


IMAGES = torch.randn(96, 1, 4, 5, generator=DRAWN)
MAPS = torch.randint(3, (96, 4, 5), generator=DRAWN)


@pytest.mark.parametrize(
    ("flatten", "channels", "misfit"),
    [
        (lambda logits: logits.reshape(-1, 3), 3, "scrambled"),
        (lambda logits: logits.flatten(2).reshape(len(logits), 20, 3).transpose(1, 2), 3, "scrambled"),
        (lambda logits: logits.permute(0, 2, 3, 1).reshape(-1, 3), 3, ""),
        (lambda logits: logits.flatten(2), 3, ""),
        (lambda logits: logits.flatten(1), 1, ""),  # one score for each place: to choose among them is meant
    ],
)
def test_a_view_that_takes_places_for_classes_is_seen(flatten, channels, misfit):
    torch.manual_seed(0)
    targets = {"scrambled": MAPS.flatten(1), "": MAPS.flatten(1)}[misfit]

    def loss(model, batch):
        logits = flatten(model(batch[0]))
        goal = batch[1][:, 0] if channels == 1 else batch[1].reshape(logits.shape[0], *logits.shape[2:])
        return functional.cross_entropy(logits, goal)

    net = nn.Conv2d(1, channels, 3, padding=1)
    data = list(zip(IMAGES.split(32), targets.split(32), strict=True))
    training = Training(net, loss, data, torch.optim.Adam(net.parameters()))
    objective = Objective(training, draw(data, seed=0, enough=lambda *_: False).batches)
    judge = Judge(objective, Halves.of(3, exhaustive=False), objective.values(objective.theta))
    found = measure_outputs(training, judge)

    assert found.misfit == misfit
    assert (mismatch(found) is not None) == bool(misfit)


def test_a_contrast_at_a_temperature_of_a_half_has_a_floor_and_is_not_blamed_for_that_alone():
    contrast = of_output(
        lambda o, y: functional.cross_entropy(
            functional.normalize(o) @ functional.normalize(o + 0.1).T / 0.5, torch.arange(len(y))
        )
    )
    outputs = look(network(4), contrast, CLASSES)
    assert outputs.misfit == "cosines"
    assert outputs.built > 1.0
    assert mismatch(outputs) is None


class Cosines(nn.Module):
    """Scores of four classes as cosines of features and weights, times a scale that may be learnt."""

    def __init__(self, scale=None):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Linear(X.shape[1], 6)
        self.classes = nn.Parameter(torch.randn(4, 6))
        self.scale = scale

    def forward(self, x):
        scores = functional.normalize(self.features(x)) @ functional.normalize(self.classes).T
        return scores if self.scale is None else self.scale * scores


def test_cosines_keep_a_cross_entropy_above_that_of_the_corners_of_a_simplex():
    outputs = look(Cosines(), nn.CrossEntropyLoss(), CLASSES)
    assert outputs.misfit == "cosines"
    assert outputs.built == pytest.approx(math.log(1 + 3 * math.exp(-1 - 1 / 3)), rel=0.02)
    assert outputs.free < 0.05
    assert look(Cosines(nn.Parameter(torch.tensor(1.0))), nn.CrossEntropyLoss(), CLASSES).misfit == ""
    assert look(network(4), nn.CrossEntropyLoss(), CLASSES).misfit == ""


def test_a_softmax_over_one_number_says_the_same_of_all_and_a_saturated_sigmoid_does_not():
    outputs = look(network(1, nn.Softmax(1), Squeeze()), nn.BCELoss(), BITS)
    assert outputs.misfit == "constant"
    assert "always 1" in mismatch(outputs).explanation
    saturated = network(1, nn.Sigmoid(), Squeeze())
    with torch.no_grad():
        saturated[-3].bias.fill_(-1e3)
    assert look(saturated, nn.MSELoss(), BITS).misfit == ""


def test_targets_that_are_no_probabilities_leave_a_loss_without_a_floor():
    outputs = look(network(1, Squeeze()), nn.BCEWithLogitsLoss(), 255 * BITS)
    assert outputs.misfit == "unbounded"
    assert "255" in mismatch(outputs).advice


@pytest.mark.parametrize(("labels", "misfit"), [(BITS, "indifferent"), (2 * BITS - 1, "")])
def test_a_hinge_of_zeros_and_ones_asks_nothing_of_the_inputs(labels, misfit):
    hinge = of_output(lambda outputs, y: (1 - y * outputs[:, 0]).relu().mean())
    outputs = look(network(1), hinge, labels)
    assert outputs.misfit == misfit
    assert (mismatch(outputs) is not None) == bool(misfit)


def test_where_no_search_finds_a_slope_a_loss_is_not_called_indifferent():
    """Residuals that are clipped throughout, with outputs at zero and at random; not with those that fit."""
    clipped = of_output(lambda outputs, y: (outputs[:, 0] - (100 * y + 50)).square().clamp(max=1).mean())
    outputs = look(network(1), clipped, BITS)
    assert outputs.floor == pytest.approx(outputs.blind)
    assert outputs.misfit == ""


def test_rates_that_are_taken_for_logarithms_are_told_so():
    counts = torch.zeros(96, 1)
    counts[::7] = 1.0
    model = network(1, nn.Softplus())
    with torch.no_grad():
        model[-2].bias.fill_(-4.0)  # as low as it gets
    finding = mismatch(look(model, nn.PoissonNLLLoss(), counts))
    assert "logarithms of rates" in finding.explanation
    assert "log_input=False" in finding.advice
