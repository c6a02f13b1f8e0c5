"""What no gradient comes to for step functions is read off the graph of a loss, and said while the run goes on."""

import pytest
import torch
from torch import nn

from unstuck.findings.records import Cause
from unstuck.watching.graphs.stairs import stairs
from unstuck.watching.watch import watch

first, last = nn.Linear(4, 4), nn.Linear(4, 1)
inputs = torch.randn(8, 4)


@pytest.mark.parametrize("name", ["round", "floor", "ceil", "trunc", "sign", "sgn"])
def test_what_lies_behind_a_step_function_alone_is_told_from_the_rest(name):
    found = stairs(last(getattr(torch, name)(first(inputs))).mean())
    assert found.behind == {id(first.weight), id(first.bias)}
    assert found.open == {id(last.weight), id(last.bias)}
    assert found.ends == (name,)


@pytest.mark.parametrize(
    "middle",
    [
        lambda hidden: hidden + (hidden.round() - hidden).detach(),
        lambda hidden: hidden - hidden.floor(),
        lambda hidden: hidden.relu() * inputs.sign(),
    ],
)
def test_what_a_gradient_can_pass_by_is_not(middle):
    assert not stairs(last(middle(first(inputs))).mean()).behind


def test_a_watched_network_of_step_functions_is_told_why_it_does_not_learn(tmp_path):
    class Sign(nn.Module):
        def forward(self, values):
            return values.sign()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), Sign(), nn.Linear(8, 1), Sign())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(300):
            optimizer.zero_grad()
            (model(inputs) - 0.5).square().mean().backward()
            optimizer.step()
    assert [finding.cause for finding in watched.findings] == [Cause.FROZEN_PARAMETERS]
    assert "behind `sign`" in watched.findings[0].explanation


def test_weights_that_are_rounded_are_told_though_a_gradient_comes_to_the_bias(tmp_path, capsys):
    class Rounded(nn.Linear):
        def forward(self, values):
            return nn.functional.linear(values, (4.0 * self.weight).round() / 4.0, self.bias)

    model = Rounded(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        for _ in range(300):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    assert "`weight` is behind `round`" in capsys.readouterr().err
