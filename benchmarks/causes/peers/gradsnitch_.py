"""gradsnitch logs each step by `watch(model, optimizer)` and lints what was logged."""

from benchmarks.causes.continuing import Run
from benchmarks.causes.peers.watching import Said, Words, moments
from unstuck import Cause

WORDS: Words = {
    "Loss became NaN/Inf": (Cause.NON_FINITE, Cause.STEP_TOO_LARGE),
    "Gradient norm exploded (inf)": (Cause.NON_FINITE, Cause.STEP_TOO_LARGE),
    "Gradient-norm spike": (Cause.STEP_TOO_LARGE,),
    "Train/val divergence (overfitting)": (Cause.GENERALIZATION_GAP,),
    "Loss plateau (no early progress)": (
        Cause.STEP_TOO_SMALL,
        Cause.DEAD_UNITS,
        Cause.FROZEN_PARAMETERS,
        Cause.UNINFORMATIVE_LABELS,
        Cause.PLATEAU,
    ),
    "Loss divergence (sustained rise)": (Cause.STEP_TOO_LARGE,),
    "Vanishing gradients": (
        Cause.VANISHING_GRADIENT,
        Cause.DEAD_UNITS,
        Cause.SATURATED_UNITS,
        Cause.STEP_TOO_SMALL,
    ),
    "LR too high (update/weight ratio)": (Cause.STEP_TOO_LARGE,),
    "LR too low (update/weight ratio)": (Cause.STEP_TOO_SMALL, Cause.FROZEN_PARAMETERS),
    "Loss oscillation (growing amplitude)": (Cause.STEP_TOO_LARGE,),
    "LR schedule collapsed early": (Cause.STEP_TOO_SMALL,),
}


def ask(run: Run) -> list[Said]:
    """Log after each backward pass, and lint; errors before warnings, then in the order of its rules."""
    import gradsnitch

    monitor = gradsnitch.watch(run.model, run.optimizer)
    for now in moments(run):
        monitor.log(now.number, float(now.loss), val_loss=now.held)
    findings = sorted(monitor.report(), key=lambda finding: finding.severity != "error")
    return [Said(finding.name, WORDS.get(finding.name, ())) for finding in findings]
