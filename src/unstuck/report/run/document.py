"""A recorded run for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

from dataclasses import asdict
from typing import Any, cast

from unstuck.plain import as_json, finite
from unstuck.report.run import standing
from unstuck.report.run.numbers import stability
from unstuck.watching.files.recorded import Course, Event, Recorded

SCHEMA = 1

Document = dict[str, Any]


def to_document(recorded: Recorded) -> Document:
    """Turn a run into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    document = {
        "schema": SCHEMA,
        "path": str(recorded.path),
        "others": len(recorded.others),
        "script": standing.what(recorded),
        "about": dict(recorded.about),
        "state": recorded.state,
        "detail": recorded.detail,
        "steps": recorded.steps,
        "begun": recorded.begun,
        "seconds": recorded.seconds,
        "stalled": any(recorded.stalled_since(course.number) for course in recorded.optimizers),
        "optimizers": [_course(recorded, course) for course in recorded.optimizers],
        "events": [_event(event) for event in recorded.events],
        "events_left_out": recorded.left_out,
        "optimizers_left_out": recorded.optimizers_left_out,
    }
    return cast("Document", finite(document))


def to_json(recorded: Recorded) -> str:
    """Write the document as JSON."""
    return as_json(to_document(recorded))


def _course(recorded: Recorded, course: Course) -> Document:
    since = recorded.stalled_since(course.number)
    causes = [reason.cause for reason in standing.standing(recorded, course).reasons]
    return {
        "optimizer": course.number,
        "name": course.name,
        "model": course.model,
        "parameters": course.parameters,
        "steps": course.steps,
        "seconds": course.seconds,
        "cost_seconds": course.cost,
        "stalled_since": since,
        "causes": causes,
        "now": asdict(course.now),
        "curve": [asdict(part) for part in course.curve],
        "samples": [asdict(sample) for sample in course.samples],
        "noise_scale": [asdict(scale) for scale in course.noise],
        "layers": {
            "steps": list(course.layers.steps),
            "rows": [asdict(layer) for layer in course.layers.rows],
        },
        "groups": [asdict(group) for group in course.groups],
        "looks": [
            {**asdict(look), "rate_times_lambda_max": stability(course, look)} for look in course.looks
        ],
    }


def _event(event: Event) -> Document:
    return {
        "optimizer": event.optimizer,
        "step": event.step,
        "seconds": event.time,
        "kind": event.kind,
        "message": event.message,
        "document": dict(event.document),
    }
