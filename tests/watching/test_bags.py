"""Bags of embeddings that can be differentiated twice: the kernel's numbers, and the second derivative of a sum."""

import pytest
import torch
from torch import nn

from unstuck.watching.kernels.bags import twice_differentiable_bags

INDICES = torch.tensor([[0, 1, 1], [4, 2, 0], [3, 3, 3]])
MODES = [{"mode": "sum"}, {"mode": "mean"}, {"mode": "mean", "padding_idx": 3}, {"mode": "max"}]
OTHERS = [{"mode": "sum", "sparse": True}, {"mode": "sum", "scale_grad_by_freq": True}]


def bags(options):
    torch.manual_seed(0)
    return nn.EmbeddingBag(5, 4, dtype=torch.float64, **options)


def loss(model):
    return model(INDICES).pow(3).sum()


@pytest.mark.parametrize("options", MODES + OTHERS)
def test_bags_and_gradient_are_the_kernel_s_to_the_bit(options):
    model = bags(options)
    with twice_differentiable_bags():
        ours = loss(model)
    (expected,) = torch.autograd.grad(loss(model), [model.weight])
    assert torch.equal(ours, loss(model))
    ours.backward()
    assert torch.equal(model.weight.grad.to_dense(), expected.to_dense())


@pytest.mark.parametrize("options", MODES[:3])
def test_the_second_derivative_is_that_of_sums_of_rows(options):
    model = bags(options)
    with twice_differentiable_bags():
        ours = loss(model)
    kept = (options.get("padding_idx", -1) != INDICES).double()
    rows = (model.weight[INDICES] * kept.unsqueeze(2)).sum(1)
    if options["mode"] == "mean":
        rows = rows / kept.sum(1, keepdim=True).clamp_min(1.0)
    direction = torch.randn(5, 4, dtype=torch.float64)
    products = []
    for value in (ours, rows.pow(3).sum()):
        (gradient,) = torch.autograd.grad(value, [model.weight], create_graph=True)
        products.append(torch.autograd.grad(gradient, [model.weight], direction)[0])
    torch.testing.assert_close(*products)
    assert products[0].any()


def test_a_transform_of_torch_func_goes_through_as_it_would_without_us():
    model = bags({"mode": "sum"})

    def gradient():
        call = torch.func.functional_call
        own = dict(model.named_parameters())
        return torch.func.grad(lambda found: call(model, found, (INDICES,)).pow(3).sum())(own)["weight"]

    with twice_differentiable_bags():
        ours = gradient()
    assert torch.equal(ours, gradient())


def test_afterwards_the_function_is_pytorch_s_own_again():
    before = torch.embedding_bag
    with twice_differentiable_bags():
        assert torch.embedding_bag is not before
    assert torch.embedding_bag is before
