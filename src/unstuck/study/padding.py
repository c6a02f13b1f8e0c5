"""From the minimum of a narrow network to a saddle of a wider one, exactly (Fukumizu & Amari, 2000)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

Shape = tuple[int, int, int]  # inputs, hidden units, outputs of a perceptron with biases


def padded(theta: Float[Tensor, " n"], narrow: Sequence[int], wide: Sequence[int]) -> Float[Tensor, " m"]:
    """Add units whose weights, in and out, are zero: they pass nothing on, and nothing comes back to them.

    Args:
        theta: A perceptron's weights and biases, layer by layer.
        narrow: Its widths: inputs, hidden layers, outputs.
        wide: Those that are wanted; inputs and outputs are as many.
    """
    pieces: list[Tensor] = []
    for (inputs, outputs), (more, most) in zip(pairwise(narrow), pairwise(wide), strict=True):
        weight, bias, theta = theta.split([inputs * outputs, outputs, len(theta) - (inputs + 1) * outputs])
        grow = (0, more - inputs, 0, most - outputs)
        pieces += [nn.functional.pad(weight.reshape(outputs, inputs), grow)]
        pieces += [nn.functional.pad(bias, (0, most - outputs))]
    return joined(*pieces)


def split(theta: Float[Tensor, " n"], shape: Shape, share: float) -> Float[Tensor, " m"]:
    """Put two units in the place of the last: the same weights in, and `share` of the weights out and the rest.

    The network computes the same; critical stays critical where no weight decay counts the weights in twice.
    """
    first, bias, last, out = parts(theta, shape)
    whole = last[:, -1:]
    return joined(
        torch.cat([first, first[-1:]]),
        torch.cat([bias, bias[-1:]]),
        torch.cat([last[:, :-1], share * whole, (1.0 - share) * whole], dim=1),
        out,
    )


def parts(theta: Float[Tensor, " n"], shape: Shape) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut a flat vector into both layers' weights and biases."""
    inputs, hidden, outputs = shape
    first, bias, last, out = theta.split([hidden * inputs, hidden, outputs * hidden, outputs])
    return first.reshape(hidden, inputs), bias, last.reshape(outputs, hidden), out


def joined(*pieces: Tensor) -> Float[Tensor, " n"]:
    """Put them together again."""
    return torch.cat([piece.flatten() for piece in pieces])
