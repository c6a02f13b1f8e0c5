"""The spectrum for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

from dataclasses import asdict
from typing import cast

from unstuck.curvature.records import Eigenvalue
from unstuck.estimate import Estimate
from unstuck.landscape.bends import Bending, Block, Spread
from unstuck.plain import as_json, finite
from unstuck.report.document import Document, looked, spectrum_document


def to_document(bending: Bending) -> Document:
    """Turn it into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    hessian, metric = bending.spread("hessian"), bending.spread("metric")
    document = {
        **looked(bending),
        "lambda_min": None if hessian is None else _end(hessian.judged_lowest, hessian.lowest),
        "lambda_max": None if hessian is None else _end(hessian.judged_highest, hessian.highest),
        "minimum_ratio": None if hessian is None else asdict(hessian.spectrum.positive),
        "trace": None if hessian is None else asdict(hessian.spectrum.trace),
        "certificate": None if hessian is None else asdict(hessian.spectrum.floor),
        "hessian": None if hessian is None else _spread(hessian),
        "metric": None if metric is None else _spread(metric),
        "blocks": [_block(each) for each in bending.blocks],
        "rate": bending.rate,
        "limit": bending.limit,
        "gradient_norm": bending.gradient,
        "weight_decay_counts": bending.subject.decay,
    }
    return cast("Document", finite(document))


def to_json(bending: Bending) -> str:
    """Write the document as JSON."""
    return as_json(to_document(bending))


def _end(judged: Estimate, found: tuple[Eigenvalue, ...]) -> Document:
    """The curvature along a direction on the half that judges, and the eigenvalue of the half that found it.

    On average that of all the data lies between: what is found on few examples is too far out, and what others say of
    its direction is not far enough.
    """
    return {**asdict(judged), "found": found[0].value}


def _block(block: Block) -> Document:
    return {
        "name": block.name,
        "parameters": block.parameters,
        "lambda_min": asdict(block.lambda_min),
        "lambda_max": asdict(block.lambda_max),
        "trace": asdict(block.trace),
        "found": {"lowest": asdict(block.lowest), "highest": asdict(block.highest)},
        "products": block.products,
        "settled": block.settled,
    }


def _spread(spread: Spread) -> Document:
    return {
        **spectrum_document(spread.spectrum),
        "lowest": [asdict(each) for each in spread.lowest],
        "highest": [asdict(each) for each in spread.highest],
        "judged": {"lowest": asdict(spread.judged_lowest), "highest": asdict(spread.judged_highest)},
        "bins": [asdict(each) for each in spread.bins],
        "starts": spread.starts,
        "gradients": spread.gradients,
    }
