import io
from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unstuck import optim
from unstuck.optim import OptimizerError, Stage, Swap, accuracy, cosine, warmup

IMAGES, LABELS = load_digits(return_X_y=True)
DATA = TensorDataset(torch.tensor(IMAGES, dtype=torch.float32) / 16.0, torch.tensor(LABELS))
TRAIN, TEST = torch.utils.data.Subset(DATA, range(1200)), torch.utils.data.Subset(DATA, range(1200, 1797))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 10)
        )


def loss(model, batch):
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels)


def of_size(size, generator):
    return DataLoader(TRAIN, size, shuffle=True, generator=generator)


def by(lr, model):
    return optim.Optimizer(model.parameters(), optim.nesterov(weight_decay=5e-4), lr=lr)


def good(share, model):
    return accuracy(model, DataLoader(TRAIN, 600)) >= share


LARGE = Stage(partial(of_size, 400), partial(by, 0.2), 200, warmup(10).then(cosine(190)), partial(good, 0.97))
SMALL = Stage(partial(of_size, 40), partial(by, 0.05), 120, cosine(120))
SWAP = Swap(loss, LARGE, SMALL, copies=4, seed=1)


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def test_the_result_is_the_mean_of_copies_trained_apart_from_where_the_large_batch_led():
    model, kept = network(), []
    SWAP.train(model, keep=kept.append)
    assert [state["copies"] for state in kept] == [0, 1, 2, 3, 4]
    first = {name: value for name, value in kept[0]["model"].items() if "running" not in name}
    assert all(torch.equal(kept[-1]["model"][name], value) for name, value in first.items())
    means = [
        torch.cat([state["mean"][f"module.{name}"].flatten() for name in dict(model.named_parameters())])
        for state in kept
    ]
    # What each copy came to, from the running mean of them.
    copies = [count * means[count] - (count - 1) * means[count - 1] for count in range(1, 5)]
    apart = torch.stack([one - other for one in copies for other in copies]).norm(dim=1)
    assert (apart > 0.1).sum() == 12
    assert torch.allclose(flat(model), torch.stack(copies).mean(0), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_on_held_out_digits_the_mean_is_better_than_what_the_large_batch_found(seed):
    model, after_large, kept = network().eval(), network(), []
    Swap(loss, LARGE, SMALL, copies=4, seed=seed).train(model, keep=kept.append)
    after_large.load_state_dict(kept[0]["model"])
    assert not model.training  # as it came
    held = list(DataLoader(TEST, 597))
    with torch.no_grad():
        assert loss(model, held[0]) < 0.95 * loss(after_large.eval(), held[0])
    assert accuracy(model, held) > accuracy(after_large, held)


def test_the_large_batch_ends_with_the_epoch_that_reaches_the_accuracy():
    asked = []

    def enough(model):
        assert not model.training
        asked.append(accuracy(model, DataLoader(TRAIN, 600)))
        return asked[-1] >= 0.9

    model, kept = network(), []
    large = Stage(partial(of_size, 400), partial(by, 0.2), 200, until=enough)
    Swap(loss, large, Stage(SMALL.batches, SMALL.optimizer, 1), copies=1).train(model, keep=kept.append)
    assert asked[-1] >= 0.9
    assert all(share < 0.9 for share in asked[:-1])
    assert kept[0]["model"]["1.num_batches_tracked"] == 3 * len(asked)


@pytest.mark.parametrize("copies", [0, 2])
def test_a_run_that_was_interrupted_goes_on_to_the_same_end_to_the_bit(copies):
    through, kept = network(), []
    SWAP.train(through, keep=kept.append)
    file = io.BytesIO()
    torch.save(kept[copies], file)
    file.seek(0)
    resumed, rest = network(), []
    torch.rand(7)  # what others draw meanwhile changes nothing
    SWAP.train(resumed, resume=torch.load(file, weights_only=True), keep=rest.append)
    assert len(rest) == 4 - copies
    for name, value in through.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_nothing_is_drawn_from_the_generators_of_others():
    before = torch.random.get_rng_state()
    short = Stage(SMALL.batches, SMALL.optimizer, 3)
    Swap(loss, short, short, copies=2).train(network())
    assert torch.equal(torch.random.get_rng_state(), before)


NONE = Stage(lambda _: [], partial(by, 0.1), 5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stage(SMALL.batches, SMALL.optimizer, 0), "`steps` must be a whole number"),
        (lambda: Swap(loss, LARGE, SMALL, copies=0), "`copies` must be a whole number"),
        (lambda: Swap(loss, NONE, SMALL).train(network()), "`batches` gave no batch"),
        (lambda: SWAP.train(network(), resume={"copies": 1}), "`resume` must be what `keep` was given"),
        (lambda: SWAP.train(network(), resume={"copies": 9, "model": {}, "mean": {}}), "at most 4 copies"),
        (lambda: accuracy(network(), []), "no example to count"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(make, words):
    with pytest.raises(OptimizerError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
