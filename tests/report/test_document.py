import json
import math

import pytest
from runs import RUNS, verdict_of

from unstuck.findings.records import Cause, Kind
from unstuck.measurements.records import Measurements
from unstuck.report.document import to_document, to_json

NUMBER = (int, float)
ESTIMATE = {"value": NUMBER, "stderr": (*NUMBER, None), "degrees": (*NUMBER, None)}
MAYBE_ESTIMATE = {**ESTIMATE, "value": (*NUMBER, None)}
CERTIFICATE = {"tolerance": NUMBER, "probability": NUMBER, "bound": NUMBER}
CURVE = {
    "spent": [NUMBER],
    "losses": [(*NUMBER, None)],
    "end": (*NUMBER, None),
    "validation": (*NUMBER, None),
}
STRINGS = [str]
MAYBE = (*NUMBER, None)
LOSSES = [MAYBE]
SCHEMA = {
    "schema": int,
    "cause": (str, None),
    "confidence": NUMBER,
    "complete": bool,
    "point": {
        "kind": str,
        "loss": (*NUMBER, None),
        "gradient_norm": (*NUMBER, None),
        "lambda_min": (*NUMBER, None),
        "lambda_max": (*NUMBER, None),
        "minimum_ratio": (*NUMBER, None),
        "certificate": (CERTIFICATE, None),
    },
    "findings": [
        {
            "cause": str,
            "confidence": NUMBER,
            "evidence": [{"name": str, "value": (*NUMBER, None), "stderr": (*NUMBER, None)}],
            "explanation": str,
            "advice": str,
        }
    ],
    "remedies": [
        {
            "name": str,
            "change": str,
            "gain": (*NUMBER, None),
            "low": (*NUMBER, None),
            "high": (*NUMBER, None),
            "helps": bool,
            "code": [str],
            "treats": [str],
        }
    ],
    "trials": (
        {
            "going_on": [CURVE],
            "tried": [
                {
                    "name": str,
                    "causes": [str],
                    "change": str,
                    "code": [str],
                    "source": str,
                    "setup": NUMBER,
                    "curves": [CURVE],
                    "gain": (ESTIMATE, None),
                    "low": (*NUMBER, None),
                    "high": (*NUMBER, None),
                    "validation": (ESTIMATE, None),
                    "given_up": str,
                }
            ],
            "untried": [{"name": str, "reason": str}],
            "orders": int,
            "horizon": NUMBER,
            "batches": int,
            "whole": bool,
            "by_validation": bool,
            "level": NUMBER,
            "gradients": NUMBER,
            "seconds": NUMBER,
            "complete": bool,
            "least": NUMBER,
        },
        None,
    ),
    "cost": {
        "gradients": NUMBER,
        "products": int,
        "seconds": NUMBER,
        "peak_bytes": int,
        "engine": str,
        "measurements": [{"name": str, "gradients": NUMBER, "seconds": NUMBER}],
    },
    "subject": {
        "model": str,
        "parameters": int,
        "frozen": int,
        "dtype": str,
        "device": str,
        "optimizer": (str, None),
        "rate": (*NUMBER, None),
        "decay": bool,
        "mode": str,
        "only": [str],
        "trainable": (int, None),
        "clip": (float, None),
        "pull": NUMBER,
        "shrink": NUMBER,
        "hooked": int,
    },
    "sample": {
        "examples": int,
        "batches": int,
        "exhaustive": bool,
        "stochastic": bool,
        "whole": bool,
        "draws": int,
    },
    "division": (
        {"processes": int, "examples": [int], "same_data": bool, "parameters": (list, None)},
        None,
    ),
    "loss": MAYBE_ESTIMATE,
    "scale": (*NUMBER, None),
    "penalty": (*NUMBER, None),
    "length": (*NUMBER, None),
    "gradient": {
        "norm": (*NUMBER, None),
        "rounding": (*NUMBER, None),
        "noise": (*NUMBER, None),
        "flatness": (*NUMBER, None),
        "stable": (*NUMBER, None),
        "steepest": (*NUMBER, None),
        "lowest": (*NUMBER, None),
    },
    "routes": [
        {
            "name": str,
            "gain": ESTIMATE,
            "slope": NUMBER,
            "distance": NUMBER,
            "steps": int,
            "multiple": (*NUMBER, None),
            "distances": [NUMBER],
            "losses": [(*NUMBER, None)],
        }
    ],
    "spectrum": (
        {
            "size": int,
            "exact": bool,
            "lowest": [{"value": NUMBER, "residual": NUMBER}],
            "highest": [{"value": NUMBER, "residual": NUMBER}],
            "floor": CERTIFICATE,
            "ceiling": CERTIFICATE,
            "density": {"nodes": [NUMBER], "weights": [NUMBER]},
            "positive": ESTIMATE,
            "above": ESTIMATE,
            "below": ESTIMATE,
            "flat": NUMBER,
            "trace": ESTIMATE,
            "noise": NUMBER,
            "products": int,
        },
        None,
    ),
    "slices": [
        {
            "name": str,
            "eigenvalue": ESTIMATE,
            "distances": [NUMBER],
            "losses": [(*NUMBER, None)],
            "model": [(*NUMBER, None)],
        }
    ],
    "non_finite": (
        {
            "place": str,
            "name": str,
            "kind": str,
            "batch": (int, None),
            "operation": (str, None),
            "dtype": str,
            "overflow": bool,
            "module": (str, None),
            "of_infinities": bool,
        },
        None,
    ),
    "wiring": (
        {
            "excluded": [{"reason": str, "names": STRINGS, "scalars": int}],
            "scalars": int,
            "excluded_gain": (ESTIMATE, None),
            "trained_gain": (ESTIMATE, None),
            "extra": (ESTIMATE, None),
            "gains_in": STRINGS,
            "ends": STRINGS,
            "sway": (ESTIMATE, None),
            "scheduled": bool,
            "rate_share": MAYBE,
            "begun": bool,
            "reason": str,
        },
        None,
    ),
    "precision": (
        {
            "dtype": str,
            "lost": NUMBER,
            "length": NUMBER,
            "cosine": NUMBER,
            "steps": int,
            "rounded_gain": (ESTIMATE, None),
            "exact_gain": (ESTIMATE, None),
            "extra": (ESTIMATE, None),
        },
        None,
    ),
    "second_moment": (
        {
            "optimizer": str,
            "ratio": (ESTIMATE, None),
            "reason": str,
            "steps": int,
            "present_gain": (ESTIMATE, None),
            "fresh_gain": (ESTIMATE, None),
            "extra": (ESTIMATE, None),
            "assumed": bool,
            "added": str,
            "added_share": MAYBE,
        },
        None,
    ),
    "sight": ({"numbers": int, "unseen": int, "examples": int, "unheeded": int}, None),
    "forgetting": (
        {
            "share": NUMBER,
            "steps": int,
            "present_gain": ESTIMATE,
            "fresh_gain": ESTIMATE,
            "extra": ESTIMATE,
        },
        None,
    ),
    "momentum": (
        {
            "ratio": NUMBER,
            "steps": int,
            "present_gain": (ESTIMATE, None),
            "fresh_gain": (ESTIMATE, None),
            "extra": (ESTIMATE, None),
        },
        None,
    ),
    "noise": (
        {
            "batch": NUMBER,
            "batches": int,
            "simple": (ESTIMATE, None),
            "variance": ESTIMATE,
            "signal": ESTIMATE,
        },
        None,
    ),
    "continuations": (
        {
            "arms": [
                {
                    "name": str,
                    "factor": NUMBER,
                    "steps": int,
                    "gain": MAYBE_ESTIMATE,
                    "trend": MAYBE_ESTIMATE,
                    "extra": MAYBE_ESTIMATE,
                    "marks": [int],
                    "losses": LOSSES,
                    "values": LOSSES,
                    "slopes": LOSSES,
                    "paired": (MAYBE_ESTIMATE, None),
                    "shrunk": (*NUMBER, None),
                    "led": NUMBER,
                }
            ],
            "epochs": NUMBER,
        },
        None,
    ),
    "layers": (
        {
            "examples": int,
            "activations": [
                {
                    "name": str,
                    "op": str,
                    "kind": str,
                    "units": int,
                    "seen": int,
                    "dead": NUMBER,
                    "saturated": NUMBER,
                    "flat": NUMBER,
                    "slope": NUMBER,
                    "silent": NUMBER,
                    "passed": MAYBE,
                    "back": MAYBE,
                    "leverage": MAYBE,
                    "output": bool,
                    "gate": bool,
                }
            ],
            "depths": [{"name": str, "depth": int, "calls": int, "gradient": MAYBE, "steps": LOSSES}],
            "parameters": [{"name": str, "weight": NUMBER, "gradient": MAYBE, "copies": NUMBER}],
            "loss": NUMBER,
            "blind": MAYBE,
            "inputs": [{"name": str, "source": str, "features": int, "silent": NUMBER}],
            "whole": bool,
        },
        None,
    ),
    "outputs": (
        {
            "criterion": str,
            "ends": STRINGS,
            "loss": NUMBER,
            "built": MAYBE,
            "free": MAYBE,
            "misfit": str,
            "shapes": [[int]],
            "batches": int,
            "floor": MAYBE,
            "blind": MAYBE,
        },
        None,
    ),
    "mixing": (
        {"own": ESTIMATE, "first": ESTIMATE, "swaps": int, "examples": int},
        None,
    ),
    "labels": (
        {
            "examples": int,
            "p_value": NUMBER,
            "dependence": ESTIMATE,
            "detectable": NUMBER,
            "tests": STRINGS,
            "loss": NUMBER,
            "constant": MAYBE,
            "passes": int,
            "discrete": bool,
            "pairs": bool,
            "directions": NUMBER,
        },
        None,
    ),
    "order": (
        {
            "examples": int,
            "batches": int,
            "whole": bool,
            "source": str,
            "repeated": (bool, None),
            "structure": {
                "part": str,
                "excess": NUMBER,
                "probability": NUMBER,
                "correlation": NUMBER,
                "purity": MAYBE,
                "expected_purity": MAYBE,
            },
            "reordered": (
                {
                    "steps": int,
                    "epochs": NUMBER,
                    "loss": NUMBER,
                    "given_loss": NUMBER,
                    "given_gain": ESTIMATE,
                    "shuffled_gain": ESTIMATE,
                    "trend": ESTIMATE,
                    "extra": ESTIMATE,
                    "marks": [int],
                    "given": LOSSES,
                    "shuffled": LOSSES,
                },
                None,
            ),
            "reason": str,
        },
        None,
    ),
    "validation": (
        {
            "examples": int,
            "training": ESTIMATE,
            "validation": ESTIMATE,
            "gap": ESTIMATE,
            "constant": MAYBE,
            "rise": (ESTIMATE, None),
            "radius": NUMBER,
            "onward": (
                {
                    "steps": int,
                    "epochs": NUMBER,
                    "training_gain": ESTIMATE,
                    "validation_gain": ESTIMATE,
                },
                None,
            ),
            "undivided": bool,
        },
        None,
    ),
    "stability": (
        {
            "optimizer": str,
            "sharpness": ESTIMATE,
            "limit": NUMBER,
            "one_rate": bool,
            "ratio": ESTIMATE,
        },
        None,
    ),
    "past": (
        {
            "first": NUMBER,
            "last": NUMBER,
            "pace": ESTIMATE,
            "improved": MAYBE,
            "not_finite": MAYBE,
            "gradient_peak": MAYBE,
            "rate_share": MAYBE,
            "validation_best": MAYBE,
            "validation_rise": MAYBE,
            "losses": [[NUMBER]],
            "gradients": [[NUMBER]],
        },
        None,
    ),
    "omitted": [{"name": str, "reason": str}],
    "notes": [str],
}


def conforms(value, schema, where="document"):
    """Raise AssertionError where `value` is not exactly what `schema` says."""
    if isinstance(schema, dict):
        assert set(value) == set(schema), f"{where} has fields {sorted(value)}"
        for key, inner in schema.items():
            conforms(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert type(value) is list, f"{where} is {value!r}"
        for item in value:
            conforms(item, schema[0], f"{where}[]")
    elif isinstance(schema, tuple) and isinstance(schema[0], dict):
        if value is not None:
            conforms(value, schema[0], where)
    else:
        types = schema if isinstance(schema, tuple) else (schema,)
        assert (None if value is None else type(value)) in types, f"{where} is {value!r}"


def refuse(constant):
    message = f"{constant} is no JSON"
    raise AssertionError(message)


def test_every_document_follows_schema_1_to_the_field(verdict):
    document = json.loads(to_json(verdict), parse_constant=refuse)
    conforms(document, SCHEMA)
    assert document["schema"] == 1
    assert document["cause"] is None or document["cause"] in list(Cause)
    assert document["point"]["kind"] in list(Kind)


def test_the_dict_holds_plain_values_only_so_that_json_gives_it_back_unchanged(verdict):
    document = to_document(verdict)
    conforms(document, SCHEMA)
    assert json.loads(to_json(verdict)) == document


def test_an_undecided_verdict_has_no_cause_and_confidence_zero(undecided):
    document = to_document(undecided)
    assert (document["cause"], document["confidence"], document["spectrum"]) == (None, 0.0, None)


def test_an_error_that_nobody_knows_is_null(undecided):
    assert math.isinf(undecided.measured.loss.stderr)
    assert to_document(undecided)["loss"] == {"value": 0.9, "stderr": None, "degrees": None}


def test_the_numbers_are_those_of_the_verdict(saddle):
    document = to_document(saddle)
    assert document["point"]["lambda_min"] == saddle.point.lambda_min
    assert document["routes"][3]["gain"] == {"value": 0.312, "stderr": 0.014, "degrees": 7}
    assert document["spectrum"]["floor"] == {"tolerance": 0.121, "probability": 0.99, "bound": -0.121 * 4.31}
    assert document["findings"][0]["evidence"][0] == {"name": "lambda_min", "value": -0.497, "stderr": 0.021}


def test_the_checker_of_these_tests_notices_a_missing_field(saddle):
    document = to_document(saddle)
    del document["spectrum"]["trace"]
    with pytest.raises(AssertionError, match=r"document\.spectrum"):
        conforms(document, SCHEMA)


@pytest.mark.parametrize("name", RUNS)
def test_every_measurement_has_its_cost_and_the_costs_add_up(name):
    document = to_document(verdict_of(name))
    cost, parts = document["cost"], document["cost"]["measurements"]
    for unit in ("gradients", "seconds"):
        assert math.fsum(part[unit] for part in parts) == pytest.approx(cost[unit], rel=0.01)
    optional = {name for name, field in Measurements.__dataclass_fields__.items() if field.default is None}
    made = {name for name in optional if document[name] is not None}
    left_out = {omission["name"] for omission in document["omitted"]}
    # The past is read from a record: nothing is evaluated for it.
    assert (made | left_out | {"other"}) - {"past"} <= {part["name"] for part in parts}
