"""The loss around a point, for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

from dataclasses import asdict
from typing import cast

from unstuck.landscape.pictures import Plane, View
from unstuck.plain import as_json, finite
from unstuck.report.document import Document, looked
from unstuck.report.surface.words import PLANES


def to_document(view: View) -> Document:
    """Turn a view into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    document = {
        **looked(view),
        "here": view.here,
        "validation": None if view.validation is None else asdict(view.validation),
        "weight_decay_counts": False,
        "length": view.length,
        "rise": view.rise,
        "lambda_max": None if view.highest is None else asdict(view.highest),
        "lambda_min": None if view.lowest is None else asdict(view.lowest),
        "planes": {plane.name: _plane(plane) for plane in view.planes},
    }
    return cast("Document", finite(document))


def to_json(view: View) -> str:
    """Write the document as JSON."""
    return as_json(to_document(view))


def _plane(plane: Plane) -> Document:
    document = asdict(plane)
    del document["name"]
    return {**document, "unit": PLANES[plane.name].unit}
