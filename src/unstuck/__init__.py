"""Why has the loss stopped going down? See README.md."""

from unstuck.diagnosis import Diagnosis
from unstuck.findings.records import Cause
from unstuck.history import History
from unstuck.pipeline import diagnose
from unstuck.training import Training, supervised
from unstuck.treating import Treated, escape, treat

__all__ = [
    "Cause",
    "Diagnosis",
    "History",
    "Training",
    "Treated",
    "diagnose",
    "escape",
    "supervised",
    "treat",
]
