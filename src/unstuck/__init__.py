"""Why has the loss stopped going down? See README.md.

What needs PyTorch is imported when it is first asked for: `unstuck run` must not import it before the script does,
which may still be setting the environment that PyTorch reads then.
"""

import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstuck.diagnosis import Diagnosis
    from unstuck.errors import UnstuckError
    from unstuck.findings.records import Cause
    from unstuck.flatness import Sharpness, sharpness
    from unstuck.history import History
    from unstuck.panorama import Surface, surface
    from unstuck.pipeline import diagnose
    from unstuck.sizing import BatchSize, batch_size
    from unstuck.spectra import Spectrum, spectrum
    from unstuck.training import Training, supervised
    from unstuck.treating import Treated, escape, treat
    from unstuck.watching.watch import Watch, watch

_HOMES = {
    "BatchSize": "unstuck.sizing",
    "Cause": "unstuck.findings.records",
    "Diagnosis": "unstuck.diagnosis",
    "History": "unstuck.history",
    "Sharpness": "unstuck.flatness",
    "Spectrum": "unstuck.spectra",
    "Surface": "unstuck.panorama",
    "Training": "unstuck.training",
    "Treated": "unstuck.treating",
    "UnstuckError": "unstuck.errors",
    "Watch": "unstuck.watching.watch",
    "batch_size": "unstuck.sizing",
    "diagnose": "unstuck.pipeline",
    "escape": "unstuck.treating",
    "sharpness": "unstuck.flatness",
    "spectrum": "unstuck.spectra",
    "supervised": "unstuck.training",
    "surface": "unstuck.panorama",
    "treat": "unstuck.treating",
    "watch": "unstuck.watching.watch",
}

__all__ = [
    "BatchSize",
    "Cause",
    "Diagnosis",
    "History",
    "Sharpness",
    "Spectrum",
    "Surface",
    "Training",
    "Treated",
    "UnstuckError",
    "Watch",
    "batch_size",
    "diagnose",
    "escape",
    "sharpness",
    "spectrum",
    "supervised",
    "surface",
    "treat",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    state = random.getstate()  # libraries of ours draw from it while they are imported
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    random.setstate(state)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
