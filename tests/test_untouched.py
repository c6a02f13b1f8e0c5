import itertools
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.errors import TrainingError
from unstuck.objective import Objective, draw

every_training = pytest.mark.parametrize(
    ("make", "loss"), [case[1:] for case in zoo.CASES], ids=[case[0] for case in zoo.CASES]
)

# The first evaluation, one of the gradients, the middle of Lanczos or of the dense Hessian, a line search.
MOMENTS = (1, 4, 60, 200)

# Seconds that each evaluation takes at least, so that a few of them tell the pace.
SLOW = 0.005

# Seconds that no diagnosis gets through: each ends where its loss does, on however busy a machine.
BUDGET = 300.0


def made(make: Callable[[], nn.Module], loss: Any, data: Any = None) -> Training:
    torch.manual_seed(0)
    return zoo.training(make(), loss, data)


def objective(training: Training, **options: Any) -> Objective:
    return Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches, **options)


def failing(training: Training, moment: int, error: BaseException, *, for_good: bool = False) -> Training:
    calls = itertools.count(1)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        time.sleep(SLOW)
        value = training.loss(model, batch)
        call = next(calls)
        if call == moment or (for_good and call > moment):
            raise error
        return value

    return Training(training.model, loss, training.data, training.optimizer, training.scheduler)


@every_training
def test_no_operation_of_the_objective_changes_anything(make, loss):
    training = made(make, loss)
    with unchanged(training):
        sampled = objective(training)
        theta = sampled.theta + 0.01
    with unchanged(training):
        sampled.values(theta)
    with unchanged(training):
        sampled.value_and_gradient(theta)
    with unchanged(training):
        next(sampled.batch_gradients(theta))
    for memory in (0.0, 1e9):
        with unchanged(training), sampled.products(theta, memory=memory) as products:
            with unchanged(training):
                products(theta)
            products.quotients(theta)
    with unchanged(training):
        assert isinstance(sampled.stochastic, bool)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["traceless changes", "lstm", "reentrant checkpoint"])
def test_a_loss_that_fails_leaves_nothing_changed(name, moment):
    training = failing(made(zoo.MODELS[name], zoo.plain), moment, ValueError("out of luck"), for_good=True)
    with unchanged(training):
        try:
            omitted = unstuck.diagnose(training, budget=BUDGET).verdict.measured.omitted
            assert any("out of luck" in one.reason for one in omitted)
        except TrainingError as error:
            assert "out of luck" in str(error)  # noqa: PT017  # one or the other


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["batch norm", "spectral norm by hooks"])
def test_an_interrupt_leaves_nothing_changed_and_keeps_what_was_found(name, moment):
    training = failing(made(zoo.MODELS[name], zoo.plain), moment, KeyboardInterrupt())
    with unchanged(training):
        try:
            assert unstuck.diagnose(training, budget=BUDGET).interrupted
        except KeyboardInterrupt:
            assert moment < MOMENTS[2]  # before anything was known


def repeat(sampled: Objective, timer: threading.Timer) -> None:
    timer.start()
    while True:
        sampled.gradient(sampled.theta)


def test_an_interrupt_is_held_back_while_the_training_is_being_given_back():
    training = made(zoo.MODELS["batch norm"], zoo.plain)
    sampled = objective(training)
    for delay in np.linspace(0.0, 2e-3, 20):
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        with unchanged(training), pytest.raises(KeyboardInterrupt):
            repeat(sampled, timer)
        timer.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Finalized:
    """Is collected in the middle of the loss, and Ctrl-C comes just then: Python ignores what a finalizer raises."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_finalizer_is_not_lost():
    training = made(zoo.MODELS["batch norm"], zoo.plain)
    calls = itertools.count(1)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if next(calls) == 40:
            Finalized()
        return training.loss(model, batch)

    interrupted = replace(training, loss=loss)
    with unchanged(interrupted):
        assert unstuck.diagnose(interrupted, budget=5.0).interrupted
    assert next(calls) <= 42


BEGINNING = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch, unstuck
from objective import zoo
from objective.fingerprint import changed, fingerprint
torch.manual_seed(0)
"""

# One in three, since every operation is tried on each model above.
EACH = """
for name, make, loss in zoo.CASES[2::3]:
    training = zoo.training(make(), loss)
    before = fingerprint(training)
    unstuck.diagnose(training, budget=0.1)
    print(name, changed(training, before))
"""

INTERRUPTED = """
if STAGE == "eigenvalues":
    from unstuck.demos import DEMOS
    training = DEMOS["saddle"].setup()
else:
    training = zoo.training(zoo.MODELS["attention"](), zoo.plain, zoo.batches(*[32] * 20))
before = fingerprint(training)
said = []
def told(stage, share):
    if stage == STAGE and not said:  # once: the interrupt may come in the middle of a second line
        said.append(stage)
        print("now", flush=True)
diagnosis = unstuck.diagnose(training, budget=60.0, progress=told)
print(diagnosis.interrupted, changed(training, before))
"""


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", BEGINNING + code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as started:
        yield started


@pytest.mark.slow
def test_a_diagnosis_changes_nothing():
    with process(EACH) as started:
        assert started.communicate()[0].splitlines() == [f"{name} []" for name, *_ in zoo.CASES[2::3]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", ["the optimizer's own next step", "going on for some steps on a copy", "eigenvalues"]
)
def test_ctrl_c_in_a_terminal_leaves_nothing_changed(stage):
    with process(f"STAGE = {stage!r}" + INTERRUPTED) as started:
        assert started.stdout
        assert started.stdout.readline() == "now\n"
        time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        assert started.stdout.read().splitlines()[-1] == "True []"


class Noisy(Dataset[Any]):
    """Augments from generators of its own, and counts."""

    def __init__(self) -> None:
        self.inputs, self.targets = zoo.batches(40)[0]
        self.numpy, self.calls = np.random.default_rng(3), 0
        self.python = random.Random(4)  # noqa: S311

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.inputs[index] + 0.1 * self.numpy.normal() + self.python.random(), self.targets[index]


class Restless:
    """Batches that count how often they were asked for, and fill the same memory again each time."""

    def __init__(self) -> None:
        self.epoch, self.inputs, self.targets = 0, torch.zeros(4, zoo.FEATURES), torch.zeros(4).long()

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        for number in range(5):
            yield self.inputs.fill_(number + self.epoch), self.targets


def shuffled(**options: Any) -> DataLoader[Any]:
    return DataLoader(Noisy(), batch_size=8, shuffle=True, generator=zoo.generator(1), **options)


def sampled_alone() -> DataLoader[Any]:
    dataset = TensorDataset(*zoo.batches(40)[0])
    return DataLoader(dataset, batch_size=8, sampler=RandomSampler(dataset, generator=zoo.generator(2)))


def persistent() -> DataLoader[Any]:
    return shuffled(num_workers=1, persistent_workers=True)


def epoch(loader: Any) -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [inputs.clone() for inputs, _ in loader]


@pytest.mark.parametrize("load", [shuffled, sampled_alone, persistent, Restless])
def test_the_data_give_the_same_batches_as_if_they_had_not_been_looked_at(load):
    torch.manual_seed(0)
    expected = load()
    first, second = epoch(expected), epoch(expected)
    torch.manual_seed(0)
    loader = load()
    before = epoch(loader)
    unstuck.diagnose(Training(zoo.perceptron(), zoo.plain(nn.Module()), loader), budget=1.0)
    torch.manual_seed(0)
    torch.empty((), dtype=torch.int64).random_()
    for drawn, wanted in ((before, first), (epoch(loader), second)):
        assert all(map(torch.equal, drawn, wanted))


def test_a_loader_that_is_in_use_goes_on_where_it_was():
    def halves(look: Callable[[DataLoader[Any]], None]) -> list[Tensor]:
        loader = persistent()
        iterator = iter(loader)
        begun = [next(iterator)[0]]
        look(loader)
        return begun + [inputs for inputs, _ in iterator]

    untouched = halves(lambda _: None)
    looked = halves(lambda loader: draw(loader, seed=0, enough=lambda *_: False) and None)
    assert all(map(torch.equal, looked, untouched))


def test_memory_that_the_data_fill_again_does_not_change_a_batch_that_was_drawn():
    drawn = draw(Restless(), seed=0, enough=lambda *_: False)
    assert [float(batch.content[0][0, 0]) for batch in drawn.batches] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_what_an_earlier_backward_pass_saved_is_still_good_for_it():
    training = made(zoo.MODELS["batch norm"], zoo.plain)
    waiting = supervised(nn.functional.cross_entropy)(training.model, training.data[0])
    unstuck.diagnose(training, budget=1.0)
    waiting.backward()
