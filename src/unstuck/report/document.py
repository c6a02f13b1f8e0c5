"""A verdict for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

from dataclasses import asdict
from typing import Any, cast

from unstuck.curvature.records import Certificate, Spectrum
from unstuck.estimate import Estimate
from unstuck.findings.records import Finding, Point, Remedy, Verdict
from unstuck.landscape.bends import Bending
from unstuck.landscape.pictures import View
from unstuck.landscape.records import Survey
from unstuck.measurements.records import Route, Slice, Stability
from unstuck.plain import as_json, finite

SCHEMA = 1

Document = dict[str, Any]


def looked(look: Bending | Survey | View) -> Document:
    """Give the fields that the documents of all looks around a point have."""
    return {
        "schema": SCHEMA,
        "loss": asdict(look.loss),
        "subject": asdict(look.subject),
        "sample": asdict(look.sample),
        "complete": look.complete,
        "omitted": [asdict(omission) for omission in look.omitted],
        "cost": {name: value for name, value in asdict(look.cost).items() if name != "measurements"},
    }


def to_document(verdict: Verdict) -> Document:
    """Turn a verdict into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    measured = verdict.measured
    document = {
        "schema": SCHEMA,
        "cause": None if verdict.cause is None else verdict.cause.value,
        "confidence": verdict.confidence,
        "complete": measured.complete,
        "point": _point(verdict.point),
        "findings": [_finding(finding) for finding in verdict.findings],
        "remedies": [_remedy(remedy) for remedy in verdict.remedies],
        "trials": _record(verdict.trials),
        "cost": asdict(verdict.cost),
        "subject": asdict(measured.subject),
        "sample": asdict(measured.sample),
        "division": _record(measured.division),
        "loss": _estimate(measured.loss),
        "scale": measured.scale,
        "penalty": measured.penalty,
        "length": measured.length,
        "gradient": asdict(measured.gradient),
        "routes": [_route(route) for route in measured.routes],
        "spectrum": None if measured.spectrum is None else spectrum_document(measured.spectrum),
        "slices": [_slice(slice_) for slice_ in measured.slices],
        "non_finite": _record(measured.non_finite),
        "wiring": _record(measured.wiring),
        "precision": _record(measured.precision),
        "second_moment": _record(measured.second_moment),
        "momentum": _record(measured.momentum),
        "forgetting": _record(measured.forgetting),
        "stability": _stability(measured.stability),
        "noise": _record(measured.noise),
        "continuations": _record(measured.continuations),
        "layers": _record(measured.layers),
        "outputs": _record(measured.outputs),
        "mixing": _record(measured.mixing),
        "sight": _record(measured.sight),
        "labels": _record(measured.labels),
        "order": _record(measured.order),
        "validation": _record(measured.validation),
        "past": _record(measured.past),
        "omitted": [asdict(omission) for omission in measured.omitted],
        "notes": list(verdict.notes),
    }
    return cast("Document", finite(document))


def to_json(verdict: Verdict) -> str:
    """Write the document as JSON."""
    return as_json(to_document(verdict))


def _record(record: Any) -> Document | None:
    """A record field by field; the field names of records are those of the schema."""
    return None if record is None else asdict(record)


def _stability(found: Stability | None) -> Document | None:
    return None if found is None else asdict(found) | {"ratio": _estimate(found.ratio)}


def _point(point: Point) -> Document:
    return {
        "kind": point.kind.value,
        "loss": point.loss,
        "gradient_norm": point.gradient_norm,
        "lambda_min": point.lambda_min,
        "lambda_max": point.lambda_max,
        "minimum_ratio": point.minimum_ratio,
        "certificate": None if point.certificate is None else _certificate(point.certificate),
    }


def _certificate(certificate: Certificate) -> Document:
    return {
        "tolerance": certificate.tolerance,
        "probability": certificate.probability,
        "bound": certificate.bound,
    }


def _finding(finding: Finding) -> Document:
    return {
        "cause": finding.cause.value,
        "confidence": finding.confidence,
        "evidence": [
            {"name": item.name, "value": item.value, "stderr": item.stderr} for item in finding.evidence
        ],
        "explanation": finding.explanation,
        "advice": finding.advice,
    }


def _remedy(remedy: Remedy) -> Document:
    return {
        "name": remedy.name,
        "change": remedy.change,
        "gain": remedy.gain,
        "low": remedy.low,
        "high": remedy.high,
        "helps": remedy.helps,
        "code": list(remedy.code),
        "treats": [cause.value for cause in remedy.treats],
    }


def _estimate(estimate: Estimate) -> Document:
    return {"value": estimate.value, "stderr": estimate.stderr, "degrees": estimate.degrees}


def _route(route: Route) -> Document:
    return {
        "name": route.name,
        "gain": _estimate(route.gain),
        "slope": route.slope,
        "distance": route.distance,
        "steps": route.steps,
        "multiple": route.multiple,
        "distances": list(route.distances),
        "losses": list(route.losses),
    }


def _slice(slice_: Slice) -> Document:
    return {
        "name": slice_.name,
        "eigenvalue": _estimate(slice_.eigenvalue),
        "distances": list(slice_.distances),
        "losses": list(slice_.losses),
        "model": list(slice_.model),
    }


def spectrum_document(spectrum: Spectrum) -> Document:
    """Write a spectrum as plain dicts, lists and numbers."""
    return {
        "size": spectrum.size,
        "exact": spectrum.exact,
        "lowest": [asdict(eigenvalue) for eigenvalue in spectrum.lowest],
        "highest": [asdict(eigenvalue) for eigenvalue in spectrum.highest],
        "floor": _certificate(spectrum.floor),
        "ceiling": _certificate(spectrum.ceiling),
        "density": {"nodes": list(spectrum.density.nodes), "weights": list(spectrum.density.weights)},
        "positive": _estimate(spectrum.positive),
        "above": _estimate(spectrum.above),
        "below": _estimate(spectrum.below),
        "flat": spectrum.flat,
        "trace": _estimate(spectrum.trace),
        "noise": spectrum.noise,
        "products": spectrum.products,
    }
