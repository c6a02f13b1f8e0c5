"""runmedic reads a log: a CSV with losses, learning rate and gradient norm, as its README lists."""

import csv
import tempfile
from pathlib import Path

from benchmarks.causes.continuing import Run
from benchmarks.causes.peers.watching import Said, Words, gradient_norm, moments, rate_of
from unstuck import Cause

WORDS: Words = {
    "non_finite": (Cause.NON_FINITE, Cause.STEP_TOO_LARGE),
    "divergence": (Cause.STEP_TOO_LARGE, Cause.STALE_SECOND_MOMENT, Cause.UNSHUFFLED_DATA),
    "loss_spikes": (Cause.STEP_TOO_LARGE,),
    "grad_spikes": (Cause.STEP_TOO_LARGE,),
    "no_learning": (Cause.FROZEN_PARAMETERS, Cause.STEP_TOO_SMALL, Cause.UNINFORMATIVE_LABELS),
    "no_learning, rate zero": (Cause.STEP_TOO_SMALL, Cause.FROZEN_PARAMETERS, Cause.UNINFORMATIVE_LABELS),
    "overfitting": (Cause.GENERALIZATION_GAP,),
    "constant_lr_plateau": (Cause.STEP_TOO_LARGE, Cause.GRADIENT_NOISE, Cause.LOCAL_MINIMUM),
    "val_below_train": (),
}
COLUMNS = ("step", "train_loss", "val_loss", "lr", "grad_norm")


def ask(run: Run) -> list[Said]:
    """Log the run and have the log diagnosed; "info" is a note, and findings come by severity."""
    from runmedic import loaders
    from runmedic.checks import run_checks
    from runmedic.roles import detect

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            log = csv.writer(file)
            log.writerow(COLUMNS)
            for now in moments(run):
                held = "" if now.held is None else now.held
                log.writerow(
                    [now.number, float(now.loss), held, rate_of(run.optimizer), gradient_norm(run.model)]
                )
        (read,) = loaders.load(str(path))
        findings = run_checks(read, detect(read))
    return [_said(finding) for finding in findings]


def _said(finding: object) -> Said:
    name, severity = str(getattr(finding, "check", "")), getattr(finding, "severity", "")
    evidence = " ".join(getattr(finding, "evidence", ()))
    if name == "no_learning" and "learning rate is 0" in evidence:
        name = "no_learning, rate zero"
    return Said(name, WORDS.get(name, ()), note=severity == "info")
