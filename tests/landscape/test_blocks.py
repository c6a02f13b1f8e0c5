"""The curvature of single layers against the blocks of the dense Hessian."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import unstuck
from landscape.test_bending import bent, dense, fitted
from objective.fingerprint import unchanged
from unstuck.landscape.blocks import Blocks, layers
from unstuck.landscape.ground import Limits
from unstuck.objective import draw
from unstuck.objective.ledger import Ledger
from unstuck.objective.parameters import exactly, matches
from unstuck.report.spectrum.document import to_document
from unstuck.report.spectrum.figures import available, figure
from unstuck.report.spectrum.page import to_html
from unstuck.report.spectrum.terminal import to_text


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.dense = nn.Linear(8, 8), nn.Linear(8, 8)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(20, 8), nn.Embedding(4, 8)
        self.h = nn.ModuleList([Layer() for _ in range(12)])
        self.ln_f = nn.LayerNorm(8)


class Language(nn.Module):
    """Named as a GPT-2 of the library Transformers is, its head tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.transformer = Inner()
        self.lm_head = nn.Linear(8, 20, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self.scale = nn.Parameter(torch.ones(3))


def test_the_layers_of_a_language_model_are_its_blocks():
    found = layers(Language())
    names = [f"transformer.h.{number}" for number in range(12)]
    assert [layer.name for layer in found] == [
        "Language",
        "transformer.wte",
        "transformer.wpe",
        *names,
        "transformer.ln_f",
    ]
    every = [name for layer in found for name in layer.names]
    assert sorted(every) == sorted(name for name, _ in Language().named_parameters())


def test_only_the_layers_of_the_chosen_parameters_are_blocks():
    assert [layer.name for layer in layers(Language(), ["h.1.*", "ln_f.bias"])] == [
        "transformer.h.1",
        "transformer.ln_f",
    ]


@pytest.mark.parametrize("name", ["0.weight", "a.h[1]", "b.*", "c.what?"])
def test_an_exact_pattern_is_of_one_name_alone(name):
    assert matches(name, exactly(name))
    assert not any(matches(other, exactly(name)) for other in ("x." + name, "a.h1", "b.c", "c.whatx"))


@pytest.fixture(scope="module")
def measured():
    training = fitted(lr=0.3)
    with unchanged(training):
        ground, whole = bent(training, top=1)
        limits = Limits(lambda: 600.0, 1e9, 0)
        blocks = Blocks(
            training, draw(training.data, seed=0, enough=lambda *_: False), whole.sample, limits, Ledger()
        )
        blocks.run(lambda *_: None)
    return ground, blocks.beside(whole)


def test_every_block_is_that_of_the_dense_hessian(measured):
    """The first has 140 parameters, which is too many to be formed; the second has 42."""
    ground, bending = measured
    matrix, begin = dense(ground), 0
    assert [(block.name, block.parameters) for block in bending.blocks] == [("0", 140), ("2", 42)]
    for block in bending.blocks:
        part = matrix[begin : begin + block.parameters, begin : begin + block.parameters]
        values, radius = torch.linalg.eigvalsh(part), float(torch.linalg.matrix_norm(part, 2))
        assert abs(block.highest.value - float(values[-1])) <= block.highest.residual + 1e-6 * radius
        assert abs(block.lowest.value - float(values[0])) <= block.lowest.residual + 0.02 * radius
        assert abs(block.trace.value - float(part.trace())) <= 4.0 * block.trace.stderr + 1e-6 * radius
        assert abs(block.lambda_min.value - float(values[0])) <= 3.0 * block.lambda_min.stderr + 1e-6 * radius
        assert (
            abs(block.lambda_max.value - float(values[-1])) <= 3.0 * block.lambda_max.stderr + 1e-6 * radius
        )
        assert block.settled
        begin += block.parameters
    assert bending.complete


def test_the_whole_bends_no_less_than_any_block(measured):
    _, bending = measured
    spread = bending.spread("hessian")
    assert spread.highest[0].value >= max(block.highest.value for block in bending.blocks) * (1 - 1e-6)
    assert spread.lowest[0].value <= min(block.lowest.value for block in bending.blocks) + 1e-6


def test_when_the_time_is_over_the_rest_is_said_to_be_left_out():
    training = fitted(lr=0.3)
    _, whole = bent(training, top=1)
    blocks = Blocks(
        training,
        draw(training.data, seed=0, enough=lambda *_: False),
        whole.sample,
        Limits(lambda: 600.0 if not blocks.found else 0.0, 1e9, 0),
        Ledger(),
    )
    blocks.run(lambda *_: None)
    known = blocks.beside(whole)
    assert [block.name for block in known.blocks] == ["0"]
    assert not known.complete
    assert "the time was over before 2" in " ".join(to_text(known).split())


def test_every_form_has_every_block(measured):
    _, bending = measured
    strange = replace(bending.blocks[0], name="</script>\x1b[31m[bold]")
    bending = replace(bending, blocks=(strange, bending.blocks[1]))
    document = json.loads(json.dumps(to_document(bending), allow_nan=False))
    assert [each["parameters"] for each in document["blocks"]] == [140, 42]
    assert set(document["blocks"][0]["lambda_min"]) >= {"value", "stderr"}
    assert "blocks" in available(bending)
    assert len(figure(bending, "blocks").data) == 2
    text, page = to_text(bending), to_html(bending)
    assert "[31m[bold]" in text
    assert "\x1b" not in text
    assert "</script>\x1b" not in page
    assert page.count('id="figure-blocks"') == 1


def test_blocks_are_asked_for_in_python_and_their_cost_counts():
    training = fitted(lr=0.3)
    with unchanged(training):
        found = unstuck.spectrum(training, top=1, budget=20.0, blocks=True)
    assert [block.name for block in found.bending.blocks] == ["0", "2"]
    spent = [block.products for block in found.bending.blocks] + [
        spread.spectrum.products for spread in found.bending.spreads
    ]
    assert found.bending.cost.products >= sum(spent)
