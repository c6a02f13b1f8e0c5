"""How sharp a place is, for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

from dataclasses import asdict
from typing import cast

from unstuck.landscape.records import Measure, Survey
from unstuck.plain import as_json, finite
from unstuck.report.document import Document, looked
from unstuck.report.sharpness.facts import slope_share
from unstuck.report.sharpness.words import MEASURES


def to_document(survey: Survey) -> Document:
    """Turn a survey into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    document = {
        **looked(survey),
        "measures": {measure.name: _measure(measure) for measure in survey.measures},
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
    }
    return cast("Document", finite(document))


def to_json(survey: Survey) -> str:
    """Write the document as JSON."""
    return as_json(to_document(survey))


def _measure(measure: Measure) -> Document:
    return {
        **asdict(measure.value),
        "found": measure.found,
        "slope": measure.slope,
        "gradients": measure.gradients,
        "scale_invariant": MEASURES[measure.name].blind,
    }
