"""What a newcomer gets wrong is told in one line: in a process of its own, where types are not checked."""

import subprocess
import sys

import pytest

# What is written, and what is answered.
MISTAKES = {
    "warmup(20.5)": "`steps` must be a whole number of at least 1, not 20.5",
    "restarts(0, 3)": "`first` must be a whole number of at least 1, not 0",
    "warmup(20).then(cosine)": "what follows must be a schedule such as cosine(10_000), not <function cosine",
    "warmup(20).then(Plateau)": "what follows must be a schedule such as cosine(10_000), not <class",
    "constant('1')": "`factor` must be a positive finite number, not '1'",
    "adam('x')": "`beta` is the weight of the past in an average",
    "adam(eps='x')": "`eps` must be a finite number",
    "Optimizer([theta], adam, lr=0.1)": "call it: adam()",
    "Optimizer([theta], adam(), lr='0.1')": "`lr` must be a finite number and not negative, not '0.1'",
    "LambdaLR(Optimizer([theta], adam(), lr=0.1), Plateau())": "apply it by `plateau.scheduler(optimizer)`",
    "Stage([], print, 5)": "`batches` must be a function, such as lambda generator: DataLoader(",
    "Stage(print, 0.1, 5)": "`optimizer` must be a function, such as lambda model: Optimizer(",
    "Swap(print, Stage(print, lambda _: adam(), 5), None).train(Linear(1, 1))": "not chain(MovingAverage",
    "Swap(print, Stage(print, lambda _: other, 5), None).train(Linear(1, 1))": "of another model's parameters",
}
SCRIPT = """
import torch
from torch.nn import Linear
from torch.optim.lr_scheduler import LambdaLR
from unstuck.optim import *
theta = torch.zeros(1, requires_grad=True)
other = Optimizer([theta], adam(), lr=0.1)
for mistake in {mistakes!r}:
    try:
        print("nothing was said of", eval(mistake))
    except OptimizerError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def answers():
    code = SCRIPT.format(mistakes=list(MISTAKES))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(MISTAKES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_that_says_what_to_do(answers, mistake):
    assert MISTAKES[mistake] in answers[mistake]
