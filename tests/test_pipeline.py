import copy
import itertools
import json
import math
import time
from functools import cache, partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import unstuck
from unstuck import Cause, Training, supervised
from unstuck.demos.digits import digits
from unstuck.errors import UnstuckError
from unstuck.findings.records import Kind

CROSS_ENTROPY = supervised(nn.functional.cross_entropy)
MINIMA = {Kind.MINIMUM, Kind.DEGENERATE_MINIMUM}
DECAY = 0.03

# What is measured; the trials have tests of their own.
diagnose = partial(unstuck.diagnose, trials=False)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_digits(size=80):
    """The zeros, ones and twos among the digits, of 4 x 4 pixels, in batches."""
    images, labels = digits()
    few = labels < 3
    images, labels = images[few][:160], labels[few][:160]
    pooled = nn.functional.avg_pool2d(images.reshape(-1, 1, 8, 8), 2).flatten(1)
    return list(zip(pooled.split(size), labels.split(size), strict=True))


def network(hidden=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def flat(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()]).double()


def whole_loss(model, loss, data, decay=0.0):
    """The loss over all the data in float64 as a function of one vector: the oracle's own way to it."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [parameter.shape for parameter in model.parameters()]
    total = sum(len(batch[0]) for batch in data)

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self):
            doubled = [tuple(x.double() if x.is_floating_point() else x for x in batch) for batch in data]
            return sum(len(batch[0]) / total * loss(self.inner, batch) for batch in doubled)

    whole = Whole()

    def value(theta):
        pieces = theta.split([shape.numel() for shape in shapes])
        placed = {
            f"inner.{name}": piece.view(shape)
            for name, piece, shape in zip(names, pieces, shapes, strict=True)
        }
        return functional_call(whole, placed, ()) + 0.5 * decay * theta.square().sum()

    return value


def dense(training, decay=0.0):
    """Loss, gradient norm and all eigenvalues at the point, by the oracle."""
    value = whole_loss(training.model, training.loss, list(training.data), decay)
    theta = flat(training.model).requires_grad_()
    (gradient,) = torch.autograd.grad(value(theta), theta)
    hessian = torch.autograd.functional.hessian(value, theta.detach())
    return float(value(theta).detach()), float(gradient.norm()), torch.linalg.eigvalsh(hessian)


def settle(model, loss, data, decay=0.0):
    """Train by L-BFGS in float64 until nothing moves, and put the result into the model."""
    value = whole_loss(model, loss, data, decay)
    theta = flat(model).requires_grad_()
    descent = torch.optim.LBFGS(
        [theta], max_iter=2000, tolerance_grad=1e-10, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure():
        descent.zero_grad()
        found = value(theta)
        found.backward()
        return found

    descent.step(closure)
    nn.utils.vector_to_parameters(theta.detach().to(next(model.parameters()).dtype), model.parameters())
    return model


@cache
def solution(hidden):
    """A network trained to the end on the digits, with weight decay; do not change it."""
    return settle(network(hidden), CROSS_ENTROPY, small_digits(), DECAY)


def at_minimum(**more):
    model = copy.deepcopy(solution(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=DECAY)
    return Training(model, CROSS_ENTROPY, small_digits(), optimizer, **more)


def at_saddle():
    """A trained network with one more unit, whose weights, in and out, are zero."""
    narrow, wide = solution(1), network(2)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.zero_()
        wide[0].weight[:1].copy_(narrow[0].weight)
        wide[0].bias[:1].copy_(narrow[0].bias)
        wide[2].weight[:, :1].copy_(narrow[2].weight)
        wide[2].bias.copy_(narrow[2].bias)
    return Training(
        wide, CROSS_ENTROPY, small_digits(), torch.optim.SGD(wide.parameters(), lr=0.05, weight_decay=DECAY)
    )


def in_valley():
    """A regression whose features differ in scale by a thousand, at a rate that the steepest one bears."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 10, generator=generator) * torch.logspace(-1.5, 1.5, 10)
    targets = inputs @ torch.randn(10, 1, generator=generator) / torch.logspace(-1.5, 1.5, 10).mean()
    targets = targets + 3.0 * inputs[:, :1] * 30.0
    data = list(zip(inputs.split(50), targets.split(50), strict=True))
    model = nn.Linear(10, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-4)
    loss = supervised(nn.functional.mse_loss)
    for _ in range(100):
        for batch in data:
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    return Training(model, loss, data, optimizer)


def document(diagnosis):
    """The JSON, read as strictly as JSON is defined."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(diagnosis.to_json(), parse_constant=refuse)


def test_a_minimum_is_one_by_its_dense_hessian_too():
    training = at_minimum()
    loss, slope, eigenvalues = dense(training, DECAY)
    diagnosis = diagnose(training)
    assert slope < 1e-4
    assert eigenvalues[0] > 0
    assert diagnosis.point.kind is Kind.MINIMUM
    assert diagnosis.cause is Cause.LOCAL_MINIMUM
    assert diagnosis.point.loss == pytest.approx(loss, rel=1e-6)
    assert diagnosis.point.lambda_min == pytest.approx(float(eigenvalues[0]), rel=1e-6)
    assert diagnosis.point.lambda_max == pytest.approx(float(eigenvalues[-1]), rel=1e-6)


def test_a_saddle_is_one_by_its_dense_hessian_too_and_leads_down():
    training = at_saddle()
    loss, slope, eigenvalues = dense(training, DECAY)
    diagnosis = diagnose(training)
    assert slope < 1e-4
    assert eigenvalues[0] < -1e-3 * eigenvalues[-1]
    assert diagnosis.point.kind is Kind.SADDLE
    assert diagnosis.cause is Cause.SADDLE_POINT
    assert diagnosis.point.lambda_min == pytest.approx(float(eigenvalues[0]), rel=1e-6)
    freed = settle(nudged(training.model), CROSS_ENTROPY, training.data, DECAY)
    assert dense(Training(freed, CROSS_ENTROPY, training.data), DECAY)[0] < 0.99 * loss


def nudged(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def test_in_a_valley_there_is_descent_by_the_oracle_and_no_critical_point():
    training = in_valley()
    loss, _, eigenvalues = dense(training)
    diagnosis = diagnose(training)
    bottom = dense(
        Training(settle(training.model, training.loss, training.data), training.loss, training.data)
    )[0]
    assert bottom < 0.9 * loss
    assert eigenvalues[-1] / eigenvalues[0] > 1e4
    assert diagnosis.point.kind is Kind.NOT_CRITICAL
    assert diagnosis.cause in {Cause.ILL_CONDITIONED, Cause.HEALTHY}


class Stops:
    """A loss that raises at its so-manieth call, as Ctrl-C would."""

    def __init__(self, at):
        # An attribute that counts would be given back as it was; what an iterator has yielded cannot be.
        self.at, self.calls = at, itertools.count(1)

    def __call__(self, model, batch):
        if next(self.calls) == self.at:
            raise KeyboardInterrupt
        return CROSS_ENTROPY(model, batch)


def stopped(at):
    training = at_saddle()
    loss = Stops(at)
    return loss, Training(training.model, loss, training.data, training.optimizer)


# Twice the gradient is timed by two to five evaluations, as the clock says: so many may be missing in another run.
UNSURE = 6


def test_whatever_ctrl_c_leaves_was_really_measured():
    loss, training = stopped(-1)
    whole = diagnose(training)
    routes = {route.name: route for route in whole.verdict.measured.routes}
    calls, outcomes = next(loss.calls) - 1, []
    for share in (0.01, 0.3, 0.6, 1.0):
        _, training = stopped(max(int(share * (calls - UNSURE)), 1))
        try:
            diagnosis = diagnose(training)
        except KeyboardInterrupt:
            outcomes.append("passed")
            continue
        outcomes.append("kept")
        assert diagnosis.interrupted
        assert not diagnosis.complete
        assert document(diagnosis)["complete"] is False
        assert str(diagnosis)
        for route in diagnosis.verdict.measured.routes:
            assert route.gain.value == pytest.approx(routes[route.name].gain.value)
        assert diagnosis.point.kind in {Kind.UNDECIDED, Kind.SADDLE}
        if diagnosis.point.kind is Kind.SADDLE:
            assert diagnosis.verdict.measured.slice("lowest") is not None
    assert outcomes == sorted(outcomes, reverse=True)  # once something is known, nothing passes through
    assert {"passed", "kept"} == set(outcomes)


def test_ctrl_c_at_the_first_evaluation_passes_through():
    with pytest.raises(KeyboardInterrupt):
        diagnose(stopped(1)[1])


class Impatient:
    """Data that raise as Ctrl-C would when they are read for the so-manieth time."""

    def __init__(self, batches, most):
        self.batches, self.most, self.readings = batches, most, itertools.count(1)

    def __iter__(self):
        if next(self.readings) == self.most:
            raise KeyboardInterrupt
        return iter(self.batches)


def test_ctrl_c_in_the_second_round_keeps_the_first():
    generator = torch.Generator().manual_seed(0)
    # Labels that depend on nothing, so that sixteen batches of four decide nothing.
    labels = torch.randint(0, 3, (1000, 4), generator=generator)
    data = [(torch.randn(4, 16, generator=generator), few) for few in labels]
    # Read for the pace, for the size of a batch, for the first round, and then for the second.
    diagnosis = diagnose(Training(network(), CROSS_ENTROPY, Impatient(data, 4)), budget=10.0)
    assert diagnosis.interrupted
    assert diagnosis.point.kind is Kind.UNDECIDED
    assert diagnosis.verdict.measured.labels is not None
    assert document(diagnosis)


def test_a_budget_that_is_too_small_makes_no_claim_of_a_minimum():
    diagnosis = diagnose(at_minimum(), budget=1e-6)
    assert document(diagnosis)
    assert not diagnosis.complete
    assert diagnosis.point.kind not in MINIMA


@pytest.mark.parametrize("budget", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_that_is_none_is_refused_by_name(budget):
    with pytest.raises(UnstuckError, match="budget"):
        diagnose(in_valley(), budget=budget)


def test_with_next_to_no_memory_there_is_a_verdict_over_fresh_graphs():
    diagnosis = diagnose(at_saddle(), memory=30_000.0)
    assert diagnosis.verdict.cost.engine == "fresh"
    assert diagnosis.verdict.measured.sample.batches < len(small_digits())
    assert document(diagnosis)


def without_clock(diagnosis):
    told = document(diagnosis)
    told["cost"] = {name: told["cost"][name] for name in ("gradients", "products", "engine")}
    return told


@pytest.mark.parametrize("make", [at_saddle, in_valley])
def test_equal_seeds_give_equal_documents(make):
    assert without_clock(diagnose(make(), seed=3)) == without_clock(diagnose(make(), seed=3))


def likelihood(model, batch):
    inputs, _ = batch
    return nn.functional.gaussian_nll_loss(model(inputs), inputs[:, :3], torch.full((len(inputs), 3), 0.01))


def test_a_negative_loss_has_minima_too():
    torch.manual_seed(0)
    data = small_digits()
    # A linear model that sees its targets among its inputs, but not what it would take to fit them.
    masked = [
        (torch.cat([0.02 * inputs[:, :3], inputs[:, 3:] * 0], dim=1), labels) for inputs, labels in data
    ]
    model = settle(nn.Linear(16, 3), likelihood, masked, 0.1)
    training = Training(
        model, likelihood, masked, torch.optim.SGD(model.parameters(), lr=1e-3, weight_decay=0.1)
    )
    loss, _, eigenvalues = dense(training, 0.1)
    diagnosis = diagnose(training)
    assert loss < 0
    assert eigenvalues[0] > 0
    assert diagnosis.point.kind is Kind.MINIMUM


@pytest.mark.parametrize("scale", [1e6, 1e-6])
@pytest.mark.parametrize("make", [at_saddle, in_valley])
def test_the_unit_of_the_loss_does_not_change_the_kind(make, scale):
    training = make()
    optimizer = None  # its decay is in units of the loss
    plain = diagnose(Training(training.model, training.loss, training.data, optimizer))

    def loss(model, batch):
        return scale * training.loss(model, batch)

    scaled = diagnose(Training(training.model, loss, training.data, optimizer))
    assert scaled.point.kind is plain.point.kind
    assert scaled.point.lambda_max == pytest.approx(scale * plain.point.lambda_max, rel=1e-4)


def test_curvature_that_holds_nearby_only_makes_no_loss_look_like_zero():
    torch.manual_seed(0)
    model = nn.Linear(40, 1, bias=False)
    nn.init.normal_(model.weight, std=30.0)

    def bounded(model, batch):
        return 1.5 + (100.0 * model.weight + batch).cos().mean()

    data = [torch.zeros(1), torch.zeros(1)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    measured = diagnose(Training(model, bounded, data, optimizer), trials=False).verdict.measured
    assert 0.5e-6 * measured.gradient.steepest * measured.length**2 > measured.loss.value
    assert measured.scale == measured.loss.value


@pytest.mark.parametrize("make", [at_minimum, at_saddle, in_valley])
def test_a_moderate_constant_does_not_change_the_kind(make):
    training = make()

    def loss(model, batch):
        return training.loss(model, batch) + 0.5

    shifted = Training(training.model, loss, training.data, training.optimizer)
    assert diagnose(shifted).point.kind is diagnose(training).point.kind


def test_validation_data_are_left_as_they_were():
    generator = torch.Generator().manual_seed(3)
    held = TensorDataset(*next(iter(at_minimum().data)))
    loader = DataLoader(held, batch_size=30, shuffle=True, generator=generator)
    before = generator.get_state()
    assert diagnose(at_minimum(validation=loader)).point.kind is Kind.MINIMUM
    assert torch.equal(generator.get_state(), before)


def test_without_an_optimizer_nothing_is_said_about_its_steps():
    training = in_valley()
    diagnosis = diagnose(Training(training.model, training.loss, training.data))
    measured = diagnosis.verdict.measured
    assert diagnosis.point.kind is Kind.NOT_CRITICAL
    assert measured.subject.optimizer is None
    assert not {"now", "full", "midway", "ahead"} & {route.name for route in measured.routes}


def test_a_scheduler_is_neither_stepped_nor_in_the_way():
    training = at_minimum()
    scheduler = torch.optim.lr_scheduler.StepLR(training.optimizer, 1)
    before = scheduler.state_dict()
    diagnosis = diagnose(
        Training(training.model, training.loss, training.data, training.optimizer, scheduler)
    )
    assert diagnosis.point.kind is Kind.MINIMUM
    assert scheduler.state_dict() == before


class Stream(IterableDataset):
    def __iter__(self):
        for inputs, labels in small_digits():
            yield from zip(inputs, labels, strict=True)


def as_dicts():
    return [{"x": inputs, "y": labels} for inputs, labels in small_digits()]


def dict_loss(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


@pytest.mark.parametrize(
    ("data", "loss"),
    [(DataLoader(Stream(), batch_size=80), CROSS_ENTROPY), (as_dicts(), dict_loss)],
    ids=["iterable data set", "dicts"],
)
def test_the_form_of_the_data_does_not_matter(data, loss):
    training = at_minimum()
    diagnosis = diagnose(Training(training.model, loss, data, training.optimizer))
    usual = diagnose(training)
    assert diagnosis.point.kind is Kind.MINIMUM
    assert diagnosis.point.loss == pytest.approx(usual.point.loss, rel=1e-6)
    assert diagnosis.verdict.measured.sample == usual.verdict.measured.sample


def test_one_batch_with_dropout_is_repeated_until_its_noise_is_known():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 3), nn.Dropout(0.5), nn.Tanh(), nn.Linear(3, 3))
    diagnosis = diagnose(Training(model, CROSS_ENTROPY, small_digits(160), None))
    sample = diagnosis.verdict.measured.sample
    assert sample.stochastic
    assert not sample.exhaustive
    assert sample.batches == 16
    assert 0.0 < diagnosis.verdict.measured.loss.stderr < math.inf


class Spare(nn.Module):
    """A network with a part that its loss never uses."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.spare = inner, nn.Linear(2, 2)

    def forward(self, inputs):
        return self.inner(inputs)


def test_parameters_that_the_loss_does_not_use_are_flat_directions():
    training = at_minimum()
    model = Spare(training.model)
    groups = [
        {"params": list(model.inner.parameters()), "weight_decay": DECAY},
        {"params": list(model.spare.parameters())},
    ]
    diagnosis = diagnose(
        Training(model, training.loss, training.data, torch.optim.SGD(groups, lr=0.05, momentum=0.9))
    )
    assert diagnosis.point.kind is Kind.DEGENERATE_MINIMUM
    assert diagnosis.verdict.measured.spectrum.above.value == pytest.approx(1 - 6 / (6 + 43))


def test_a_model_in_float64_is_taken_as_it_is():
    training = at_minimum()
    data = [(inputs.double(), labels) for inputs, labels in training.data]
    diagnosis = diagnose(Training(training.model.double(), CROSS_ENTROPY, data, training.optimizer))
    assert diagnosis.point.kind is Kind.MINIMUM
    assert diagnosis.verdict.measured.subject.dtype == "float64"
    assert diagnosis.verdict.measured.gradient.norm < 1e-5


def test_progress_ends_with_the_whole():
    shares = []
    diagnose(in_valley(), progress=lambda _, share: shares.append(share))
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert all(0.0 <= share <= 1.0 for share in shares)


def slow_digits(seconds):
    """Sixty-four batches, each of whose losses takes so long at least."""
    images, labels = digits()
    model = nn.Linear(64, 10)
    nn.init.zeros_(model.weight)

    def loss(network, batch):
        time.sleep(seconds)
        return nn.functional.cross_entropy(network(batch[0]), batch[1])

    data = list(zip(images[:1024].split(16), labels[:1024].split(16), strict=True))
    return Training(model, loss, data, torch.optim.SGD(model.parameters(), lr=0.1))


def test_a_budget_that_is_short_for_the_model_is_spent_on_few_batches_and_that_is_said():
    verdict = diagnose(slow_digits(0.1), budget=0.5).verdict
    assert verdict.measured.sample.batches == 6
    assert not verdict.measured.sample.whole
    assert ("spectrum", "there was no time for it") in [(o.name, o.reason) for o in verdict.measured.omitted]
    assert any("there was time for 6 batches only" in note for note in verdict.notes)
    assert {"gradient", "krylov", "now", "ahead"} <= {route.name for route in verdict.measured.routes}
    assert verdict.cost.products == 0


def test_no_time_is_kept_for_trials_that_would_not_fit_it():
    verdict = unstuck.diagnose(slow_digits(0.05), budget=4.0).verdict
    assert verdict.measured.sample.batches > 6
    assert (
        any("No remedy was tried: there is" in note for note in verdict.notes)
        or verdict.cause is Cause.HEALTHY
    )


def test_a_budget_that_is_enough_is_said_nothing_about():
    verdict = diagnose(slow_digits(0.0), budget=60.0).verdict
    assert verdict.measured.sample.batches >= 16
    assert not any("batches only" in note for note in verdict.notes)


def test_what_float32_cannot_move_is_told_though_the_loss_overflows_at_twice_the_weights():
    """A time in seconds since 1970, that a decay began at: float32 has steps of 128 seconds there."""

    class Decay(nn.Module):
        def __init__(self):
            super().__init__()
            self.begin, self.level = nn.Parameter(torch.tensor(1.7e9)), nn.Parameter(torch.tensor(0.1))

        def forward(self, t):
            return (-(t - self.begin) / 3600.0).exp() + self.level

    drawn = torch.Generator().manual_seed(0)
    times = torch.rand(400, generator=drawn) * 6000
    seen = 1.7e9 + 128 * (times / 128).round()
    y = (-(seen - 1.7e9 - 1500) / 3600).exp() + 0.02 * torch.randn(400, generator=drawn)
    model, data = Decay(), list(zip(seen.split(50), y.split(50), strict=True))
    optimizer = torch.optim.Adam(
        [{"params": [model.begin], "lr": 5.0}, {"params": [model.level], "lr": 0.01}]
    )
    loss = supervised(nn.MSELoss())
    for batch in data * 25:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    found = diagnose(Training(model, loss, data, optimizer))
    assert found.verdict.measured.scale == pytest.approx(found.verdict.measured.loss.value)
    assert found.cause is Cause.PRECISION_STALL
