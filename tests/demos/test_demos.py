import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from unstuck.demos import DEMOS
from unstuck.demos.digits import batches, digits, raw_digits
from unstuck.demos.networks import initialised, perceptron, widened
from unstuck.demos.solve import minimise
from unstuck.training import Training


def test_the_images_are_those_of_scikit_learn():
    images, labels = raw_digits()
    original = load_digits()
    assert np.array_equal(images.numpy(), original.data)
    assert np.array_equal(labels.numpy(), original.target)


def test_scaled_images_have_mean_zero_and_variance_one():
    images, _ = digits()
    assert images.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert images.std().item() == pytest.approx(1.0, abs=1e-5)


def test_an_epoch_sees_every_example_once_and_the_next_one_in_another_order():
    data = batches(torch.arange(1797.0)[:, None], torch.arange(1797))
    first, second = (torch.cat([targets for _, targets in data]) for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(1797))
    assert torch.equal(second.sort().values, torch.arange(1797))
    assert not torch.equal(first, second)


def test_zero_units_change_nothing_of_what_a_network_computes():
    narrow = initialised(perceptron(64, 3, 10), seed=1)
    images, _ = digits()
    assert torch.allclose(widened(narrow, 64)(images), narrow(images), atol=1e-6)


def test_solving_leaves_no_gradient():
    assert minimise(initialised(perceptron(64, 1, 10), seed=0).double(), 1e-2) < 1e-10


def test_demos_go_by_their_names():
    assert all(demo.name == name for name, demo in DEMOS.items())


@pytest.mark.parametrize("name", DEMOS)
class TestEveryDemo:
    def test_has_a_summary_that_fits_on_a_line(self, name):
        assert "\n" not in DEMOS[name].summary
        assert len(DEMOS[name].summary) <= 65

    def test_builds_a_training_with_optimizer_without_touching_global_randomness(self, name):
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        training = DEMOS[name].setup()
        assert isinstance(training, Training)
        assert training.optimizer is not None
        assert states == (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )

    def test_is_the_same_each_time_to_the_bit(self, name):
        first, second = DEMOS[name].setup(), DEMOS[name].setup()
        for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
            assert torch.equal(one, other)
        for one, other in zip(next(iter(first.data)), next(iter(second.data)), strict=True):
            assert torch.equal(one, other)

    def test_leaves_no_gradient_behind(self, name):
        assert all(parameter.grad is None for parameter in DEMOS[name].setup().model.parameters())
