import io
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from unstuck import optim
from unstuck.optim import OptimizerError, averaged, constant, cosine, renew_batch_norm


def data():
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16.0, torch.tensor(labels)


def batches(size=100):
    images, labels = data()
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).split(size)
    return [(images[batch], labels[batch]) for batch in rows]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=0.3), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10)
        )


def path(model, steps=20):
    """Train, and give the weights after every step."""
    optimizer = optim.Optimizer(model.parameters(), optim.momentum(), lr=0.05)
    for inputs, labels in (batches() * 2)[:steps]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        yield nn.utils.parameters_to_vector(model.parameters()).detach().double()


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().double()


def test_the_average_is_the_mean_of_the_weights_on_the_way():
    model = network()
    mean, passed = averaged(model), []
    for weights in path(model):
        mean.update_parameters(model)
        passed.append(weights)
    assert torch.allclose(flat(mean), torch.stack(passed).mean(0), rtol=1e-4, atol=1e-6)


def test_with_a_decay_the_past_fades_exponentially():
    model = network()
    mean, expected = averaged(model, decay=0.8), None
    for weights in path(model):
        mean.update_parameters(model)
        expected = weights if expected is None else 0.8 * expected + 0.2 * weights
    assert torch.allclose(flat(mean), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_an_average_goes_on_from_its_checkpoint_to_the_bit(decay):
    model = network()
    through, again = averaged(model, decay=decay), averaged(model, decay=decay)
    for step, _ in enumerate(path(model)):
        through.update_parameters(model)
        if step == 8:
            file = io.BytesIO()
            torch.save(through.state_dict(), file)
            file.seek(0)
            again.load_state_dict(torch.load(file, weights_only=True))
        elif step > 8:
            again.update_parameters(model)
    assert torch.equal(flat(through), flat(again))


def test_renewed_statistics_are_the_means_over_the_batches():
    model = network()
    list(path(model))
    given, first = batches(599), model[0]  # of equal size: 1797 = 3 * 599
    model.eval()
    model[3].train()
    renew_batch_norm(model, iter(given))
    outputs = torch.stack([first(inputs) for inputs, _ in given]).detach()
    assert torch.allclose(model[1].running_mean, outputs.mean((0, 1)), atol=1e-5)
    assert torch.allclose(model[1].running_var, outputs.var(1).mean(0), rtol=1e-4)
    assert [module.training for module in model] == [False, False, False, True, False]
    assert model[1].momentum == 0.3


def test_renewing_agrees_with_pytorchs_own():
    ours, theirs = network(), network()
    renew_batch_norm(ours, [{"x": inputs} for inputs, _ in batches()], forward=lambda net, b: net(b["x"]))
    swa_utils.update_bn(batches(), theirs)
    assert torch.equal(ours[1].running_mean, theirs[1].running_mean)
    assert torch.equal(ours[1].running_var, theirs[1].running_var)


@pytest.mark.parametrize(
    ("given", "error"),
    [([], OptimizerError), ([*batches()[:2], torch.ones(3)], Exception)],
    ids=["none", "bad"],
)
def test_statistics_stay_as_they_are_where_they_cannot_be_renewed(given, error):
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(error):
        renew_batch_norm(model, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.3
    assert not any(module.training for module in model.modules())


def test_a_model_without_batch_norm_needs_no_batch():
    renew_batch_norm(nn.Linear(2, 2), [])


def test_the_settling_rate_is_that_of_swa():
    """As in the documentation of torch: another schedule at first, from the 30th epoch on SWALR."""
    model = nn.Linear(1, 1)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = lr_scheduler.CosineAnnealingLR(theirs, 50)
    expected = []
    for _ in range(30):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    swa = swa_utils.SWALR(theirs, swa_lr=0.05, anneal_epochs=8)
    for _ in range(20):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        swa.step()
    schedule = cosine(50).steps(30).settle(0.5, 8)
    assert [0.1 * schedule(step) for step in range(50)] == pytest.approx(expected, rel=1e-12)
    assert eval(repr(schedule), vars(optim))(33) == schedule(33)  # noqa: S307 - our own text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: averaged(nn.Linear(1, 1), decay=1.0), "`decay` is the weight of the past"),
        (lambda: averaged(nn.Linear(1, 1), decay=math.nan), "`decay`"),
        (lambda: renew_batch_norm(network(), []), "`batches` gave no batch: pass a DataLoader"),
        (lambda: cosine(5).settle(2.0, 3), "`share` is a share of the rate"),
        (lambda: cosine(5).settle(0.5, 0), "`steps` must be a whole number"),
        (lambda: constant().settle(0.5, 3), "has no end"),
    ],
)
def test_what_cannot_be_averaged_is_refused_in_one_line(make, words):
    with pytest.raises(OptimizerError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
