"""The loss around a point, for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

import json
from dataclasses import asdict
from typing import Any, cast

from unstuck.landscape.pictures import Plane, View
from unstuck.plain import finite
from unstuck.report.surface.words import PLANES

SCHEMA = 1

Document = dict[str, Any]


def to_document(view: View) -> Document:
    """Turn a view into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    document = {
        "schema": SCHEMA,
        "loss": asdict(view.loss),
        "here": view.here,
        "validation": None if view.validation is None else asdict(view.validation),
        "weight_decay_counts": False,
        "length": view.length,
        "rise": view.rise,
        "lambda_max": None if view.highest is None else asdict(view.highest),
        "lambda_min": None if view.lowest is None else asdict(view.lowest),
        "planes": {plane.name: _plane(plane) for plane in view.planes},
        "subject": asdict(view.subject),
        "sample": asdict(view.sample),
        "complete": view.complete,
        "omitted": [asdict(omission) for omission in view.omitted],
        "cost": {name: value for name, value in asdict(view.cost).items() if name != "measurements"},
    }
    return cast("Document", finite(document))


def to_json(view: View) -> str:
    """Write the document as JSON, in ASCII, so that it survives any terminal and any pipe."""
    return json.dumps(to_document(view), indent=2, allow_nan=False)


def _plane(plane: Plane) -> Document:
    document = asdict(plane)
    del document["name"]
    return {**document, "unit": PLANES[plane.name].unit}
