"""torchmortem hooks into model and optimizer, and makes its report at the end, the severest finding first.

Its README passes the loss as a number, with which it takes no curvature.
"""

from benchmarks.causes.continuing import Run
from benchmarks.causes.peers.watching import Said, Words, moments
from unstuck import Cause

WORDS: Words = {
    "Vanishing gradients detected": (Cause.VANISHING_GRADIENT, Cause.SATURATED_UNITS),
    "Exploding gradients detected": (Cause.STEP_TOO_LARGE,),
    "Gradient stalling in": (Cause.VANISHING_GRADIENT, Cause.DEAD_UNITS, Cause.SATURATED_UNITS),
    "Dead units in": (Cause.DEAD_UNITS,),
    "Activation saturation in": (Cause.SATURATED_UNITS,),
    "Update ratio too low in": (Cause.STEP_TOO_SMALL, Cause.VANISHING_GRADIENT),
    "Update ratio too high in": (Cause.STEP_TOO_LARGE,),
    "Training divergence detected": (Cause.STEP_TOO_LARGE, Cause.NON_FINITE),
    "Loss plateau detected": (Cause.SADDLE_POINT, Cause.PLATEAU, Cause.STEP_TOO_SMALL, Cause.LOCAL_MINIMUM),
    "Catapult phase detected": (),
    "Edge of stability regime detected": (Cause.STEP_TOO_LARGE,),
    "High gradient noise (low SNR)": (Cause.GRADIENT_NOISE,),
    "Weight norm explosion": (Cause.STEP_TOO_LARGE,),
    "Stagnant weight norms": (Cause.FROZEN_PARAMETERS, Cause.VANISHING_GRADIENT, Cause.STEP_TOO_SMALL),
    "Inter-layer weight norm imbalance": (Cause.ILL_CONDITIONED,),
    "Rank collapse in": (Cause.STEP_TOO_LARGE,),
    "Gradient starvation": (Cause.VANISHING_GRADIENT, Cause.DEAD_UNITS),
    "Instability feedback loop": (Cause.STEP_TOO_LARGE,),
    "Representation bottleneck": (Cause.PLATEAU,),
    "Training trapped by loss landscape curvature": (Cause.STEP_TOO_LARGE,),
}


def ask(run: Run) -> list[Said]:
    """Go on under `Autopsy`, sampled thoroughly; notes are what it gives as information."""
    from torchmortem import Autopsy, Severity

    with Autopsy(run.model, optimizer=run.optimizer, sampling="thorough") as autopsy:
        for now in moments(run):
            autopsy.step(loss=float(now.loss))
    report = autopsy.get_report()
    findings = [(one.title, one.severity == Severity.INFO) for one in report.findings]
    heard = dict.fromkeys((_known(title), note) for title, note in findings)
    insights = [_known(one.title) for one in report.insights]
    return [Said(words, WORDS.get(words, ()), note) for words, note in heard] + [
        Said(words, WORDS.get(words, ())) for words in insights
    ]


def _known(title: str) -> str:
    return next((words for words in WORDS if title.startswith(words)), title)
