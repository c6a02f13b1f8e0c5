"""How sharp a place is, for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

import json
from dataclasses import asdict
from typing import Any, cast

from unstuck.landscape.records import Measure, Survey
from unstuck.plain import finite
from unstuck.report.sharpness.facts import slope_share
from unstuck.report.sharpness.words import MEASURES

SCHEMA = 1

Document = dict[str, Any]


def to_document(survey: Survey) -> Document:
    """Turn a survey into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    document = {
        "schema": SCHEMA,
        "measures": {measure.name: _measure(measure) for measure in survey.measures},
        "loss": asdict(survey.loss),
        "validation": None if survey.validation is None else asdict(survey.validation),
        "weight_decay_counts": False,
        "gradient": {
            "norm": survey.gradient.norm,
            "noise": survey.gradient.noise,
            "norm_with_decay": survey.gradient.decayed,
            "slope_share": slope_share(survey),
        },
        "length": survey.length,
        "rise": survey.rise,
        "profiles": [asdict(profile) for profile in survey.profiles],
        "subject": asdict(survey.subject),
        "sample": asdict(survey.sample),
        "complete": survey.complete,
        "omitted": [asdict(omission) for omission in survey.omitted],
        "cost": {name: value for name, value in asdict(survey.cost).items() if name != "measurements"},
    }
    return cast("Document", finite(document))


def to_json(survey: Survey) -> str:
    """Write the document as JSON, in ASCII, so that it survives any terminal and any pipe."""
    return json.dumps(to_document(survey), indent=2, allow_nan=False)


def _measure(measure: Measure) -> Document:
    return {
        **asdict(measure.value),
        "found": measure.found,
        "slope": measure.slope,
        "gradients": measure.gradients,
        "scale_invariant": MEASURES[measure.name].blind,
    }
