"""How an optimizer is asked for a step."""

import pytest
import torch
from torch import nn

from unstuck.optim.closures import step_with_gradients, wants_closure


class Asking(torch.optim.SGD):
    """The closure has a default, and the step cannot do without it, as in SAM."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = torch.enable_grad()(closure)()
        super().step()
        return loss


class Failing(torch.optim.SGD):
    def step(self, closure=None):
        msg = "no closure" if closure is None else "with a closure"
        raise ValueError(msg)


class Bare(torch.optim.SGD):
    def step(self):
        msg = "nothing helps"
        raise ValueError(msg)


def asked(kind):
    """The optimizer of one weight, which is 2, and a closure that counts how often it is called."""
    weight = nn.Parameter(torch.tensor(2.0))
    calls = []

    def closure():
        calls.append(float(weight.detach()))
        weight.grad = torch.ones(())
        return 0.0

    return weight, kind([weight], lr=0.5), closure, calls


def test_who_fails_without_a_closure_is_given_one_and_asked_with_it_from_then_on():
    weight, optimizer, closure, calls = asked(Asking)
    assert not wants_closure(optimizer)

    step_with_gradients(optimizer, closure)

    assert (weight.item(), calls) == (1.5, [2.0])
    assert wants_closure(optimizer)
    assert wants_closure(asked(Asking)[1])


@pytest.mark.parametrize(("kind", "said"), [(Failing, "no closure"), (Bare, "nothing helps")])
def test_who_fails_with_a_closure_as_well_fails_as_without_one(kind, said):
    _, optimizer, closure, _ = asked(kind)

    with pytest.raises(ValueError, match=said):
        step_with_gradients(optimizer, closure)

    assert not wants_closure(optimizer)


def test_who_can_do_without_a_closure_is_not_given_one():
    weight, optimizer, closure, calls = asked(torch.optim.SGD)
    weight.grad = torch.ones(())

    step_with_gradients(optimizer, closure)

    assert (weight.item(), calls) == (1.5, [])
    assert not wants_closure(optimizer)
