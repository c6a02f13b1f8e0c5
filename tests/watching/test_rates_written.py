"""A script that writes learning rates itself is known by its text; what is installed is not asked."""

import inspect
import runpy

import pytest

from unstuck.watching import schedules
from unstuck.watching.schedules import writes_rates

TRAINING = """
import torch

def lower(optimizer, epoch):
    for group in optimizer.param_groups:
        {line}

def step(optimizer, see):
    optimizer.step()
    return see()
"""


def frame_of(tmp_path, line):
    file = tmp_path / "training.py"
    # Put together here, since this file's own text is looked at, too.
    file.write_text(TRAINING.format(line=line.replace("RATE", '"lr"')))

    class Optimizer:
        step = staticmethod(lambda: None)

    return runpy.run_path(str(file))["step"](Optimizer, inspect.currentframe)


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("group[RATE] = 0.1 * 0.5**epoch", True),
        ("group[RATE] /= 10", True),
        ("group[ RATE ] *= 0.1", True),
        ("print(group[RATE])", False),
        ("assert group[RATE] == 0.1", False),
        ('group["momentum"] = 0.9', False),
    ],
)
def test_a_script_with_a_schedule_of_its_own_is_known_by_what_it_writes(line, written, tmp_path):
    assert writes_rates(frame_of(tmp_path, line)) is written


def test_what_is_installed_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(schedules, "_INSTALLED", (str(tmp_path),))
    assert not writes_rates(frame_of(tmp_path, "group[RATE] /= 10"))
