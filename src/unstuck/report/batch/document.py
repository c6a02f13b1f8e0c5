"""Batch sizes for programs: the JSON document, schema 1 (field names are fixed, fields may be added)."""

from dataclasses import asdict
from typing import Any, cast

from unstuck.batch.course import Course, Trial
from unstuck.batch.records import Decision, Option, Scale, Sizing, seconds_per_update
from unstuck.estimate import Estimate
from unstuck.plain import as_json, finite

SCHEMA = 1

Document = dict[str, Any]


def to_document(sizing: Sizing) -> Document:
    """Turn it into plain dicts, lists, strings and numbers; what is not finite becomes None."""
    document = {
        "schema": SCHEMA,
        "answer": str(sizing.decision.answer),
        "reason": sizing.decision.reason,
        "recommended": _recommended(sizing),
        "present": {
            "size": sizing.present,
            "examples": sizing.examples,
            "optimizer": sizing.optimizer,
            "learning_rates": list(sizing.rates),
            "rate_rule": sizing.rule,
        },
        "timing": _timing(sizing),
        "time": None
        if sizing.clock is None
        else {
            "grows_from": sizing.clock.grows_from,
            "limit": sizing.clock.limit,
            "threads": sizing.clock.threads,
            "device": sizing.clock.device,
        },
        "loading": None if sizing.loading is None else asdict(sizing.loading),
        "noise": _noise(sizing),
        "comparison": _comparison(sizing.decision, sizing.course),
        "order": None if sizing.order is None else _order(sizing),
        "omitted": list(sizing.omitted),
        "interrupted": sizing.interrupted,
        "cost": {"gradients": sizing.gradients, "seconds": sizing.seconds},
    }
    return cast("Document", finite(document))


def to_json(sizing: Sizing) -> str:
    """Write the document as JSON."""
    return as_json(to_document(sizing))


def _recommended(sizing: Sizing) -> Document:
    decision = sizing.decision
    best = next((each for each in decision.options if each.size == decision.best), None)
    return {
        "low": decision.low,
        "high": decision.high,
        "best": decision.best,
        "learning_rate_factor": best.factor if best else None,
        "learning_rates": [best.factor * rate for rate in sizing.rates] if best else [],
    }


def _timing(sizing: Sizing) -> list[Document]:
    if sizing.clock is None:
        return []
    whole = seconds_per_update(sizing.clock.timings, sizing.loading)
    return [
        {
            **asdict(timing),
            "with_loading": whole[timing.size],
            "epoch": whole[timing.size] * sizing.examples / timing.size if sizing.examples else None,
        }
        for timing in sizing.clock.timings
    ]


def _noise(sizing: Sizing) -> Document | None:
    noise = sizing.noise
    if noise is None:
        return None
    return {
        "simple": _scale(noise.simple),
        "curved": _scale(noise.curved),
        "metric": _scale(noise.metric),
        "layers": [
            {"name": layer.name, "parameters": layer.parameters, **_scale(layer.scale)}
            for layer in noise.layers
        ],
        "signal": _estimate(noise.signal),
        "variance": _estimate(noise.variance),
        "examples": noise.examples,
        "piece": noise.piece,
        "whole": noise.whole,
        "separable": noise.separable,
        "omitted": list(noise.omitted),
        "singly": noise.singly,
        "decayed": noise.decayed,
    }


def _comparison(decision: Decision, course: Course | None) -> Document | None:
    if course is None:
        return None
    return {
        "loss": decision.level,
        "rate_factor": decision.rate,
        "lossless": decision.lossless,
        "critical": None if decision.fit is None else asdict(decision.fit),
        "sizes": [_option(option) for option in decision.options],
        "trials": [_trial(trial) for trial in course.trials],
        "anew": [_trial(trial) for trial in course.anew],
    }


def _trial(trial: Trial) -> Document:
    return {
        "size": trial.arm.size,
        "rate_factor": trial.arm.factor,
        "order": trial.order,
        "updates": [steps for steps, _ in trial.looks],
        "losses": [loss for _, loss in trial.looks],
        "lost": trial.lost,
        "validation": trial.validation,
    }


def _option(option: Option) -> Document:
    return {
        "size": option.size,
        "rate_factor": option.factor,
        "updates": _estimate(option.updates),
        "seconds": _estimate(option.seconds),
        "predicted_updates": option.predicted,
        "examples": option.examples,
        "loss": option.loss,
        "validation": option.validation,
    }


def _order(sizing: Sizing) -> Document:
    order = sizing.order
    assert order is not None  # noqa: S101  # as the caller made sure
    return {**asdict(order), "exchangeable": not order.structure.suspicious}


def _scale(scale: Scale | None) -> Document:
    if scale is None:
        return dict.fromkeys(("value", "stderr", "low", "high"))
    estimate = scale.estimate
    return {
        "value": estimate.value if estimate else None,
        "stderr": estimate.stderr if estimate else None,
        "low": scale.low,
        "high": scale.high,
    }


def _estimate(estimate: Estimate | None) -> Document:
    return {
        "value": estimate.value if estimate else None,
        "stderr": estimate.stderr if estimate else None,
    }
