import json

import pytest

from recordings import handmade, killed, short, stuck
from unstuck.report.run.document import to_document, to_json
from unstuck.watching.files.reading import read

# What other people's programs rely on: fields may be added, none is renamed.
FIELDS = {
    "schema",
    "path",
    "others",
    "script",
    "about",
    "state",
    "detail",
    "steps",
    "begun",
    "seconds",
    "stalled",
    "optimizers",
    "events",
    "events_left_out",
    "optimizers_left_out",
}
FIELDS_OF_AN_OPTIMIZER = {
    "optimizer",
    "name",
    "model",
    "parameters",
    "steps",
    "seconds",
    "cost_seconds",
    "stalled_since",
    "causes",
    "now",
    "curve",
    "samples",
    "noise_scale",
    "layers",
    "groups",
    "looks",
}


@pytest.mark.parametrize("run", [stuck, short, killed], ids=lambda run: run.__name__)
def test_the_document_has_its_fields(run):
    document = to_document(read(run()))
    assert document["schema"] == 1
    assert document.keys() >= FIELDS
    assert document["optimizers"][0].keys() >= FIELDS_OF_AN_OPTIMIZER


def test_the_document_is_json_whose_numbers_are_finite_or_null(tmp_path):
    infinite = float("inf")
    samples = [(0, step, 0.1, infinite, *[None] * 11) for step in range(1, 9)]
    steps = [(0, step, 0.1 * step, 1, infinite, infinite) for step in range(1, 9)]
    text = to_json(read(handmade(tmp_path / "r.sqlite", steps=steps, samples=samples)))
    assert text.isascii()

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse)["optimizers"][0]["now"]["rate"] is None


def test_the_document_says_that_it_stands_still():
    document = to_document(read(stuck()))
    assert document["stalled"] is True
    assert document["state"] == "finished"
    assert document["events"][0]["kind"] == "stall"
