"""Attention that can be differentiated twice: the fused kernel's numbers, and the plain one's second derivative."""

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from unstuck.watching.kernels.attention import twice_differentiable_attention

OPTIONS = ({}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": torch.zeros(16, 16).fill_diagonal_(-2.0)})


def inputs():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 16, 8, generator=generator, requires_grad=True) for _ in range(3)]


def loss(tensors, options):
    return functional.scaled_dot_product_attention(*tensors, **options).square().sum()


@pytest.mark.parametrize("options", OPTIONS)
def test_output_and_gradient_are_the_kernel_s_to_the_bit(options):
    tensors = inputs()
    expected = torch.autograd.grad(loss(tensors, options), tensors)
    with twice_differentiable_attention():
        value = loss(tensors, options)
    torch.autograd.grad(value, tensors, create_graph=True)
    assert torch.equal(value, loss(tensors, options))
    for ours, theirs in zip(torch.autograd.grad(value, tensors), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_second_derivative_is_that_of_plain_products(options):
    tensors = inputs()
    with twice_differentiable_attention():
        ours = loss(tensors, options)
    with sdpa_kernel(SDPBackend.MATH):
        plain = loss(tensors, options)
    products = []
    for value in (ours, plain):
        gradients = torch.autograd.grad(value, tensors, create_graph=True)
        products.append(torch.autograd.grad([g.sum() for g in gradients], tensors))
    for one, other in zip(*products, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_under_autocast_it_can_be_differentiated_twice_as_well():
    tensors = inputs()
    with twice_differentiable_attention(), torch.autocast("cpu", torch.bfloat16):
        value = loss(tensors, {})
    gradients = torch.autograd.grad(value, tensors, create_graph=True)
    products = torch.autograd.grad([g.sum() for g in gradients], tensors)
    assert all(bool(product.isfinite().all()) for product in products)


def test_afterwards_the_function_is_pytorch_s_own_again():
    before = functional.scaled_dot_product_attention
    with twice_differentiable_attention():
        assert functional.scaled_dot_product_attention is not before
    assert functional.scaled_dot_product_attention is before
