"""Each bad input gets one line that names the argument, shows what came and says what to do."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck import Cause, Training, diagnose, supervised
from unstuck.errors import TrainingError, UnstuckError
from unstuck.training import Loss

CROSS_ENTROPY = supervised(nn.functional.cross_entropy)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return zoo.perceptron()


def good(**parts: Any) -> dict[str, Any]:
    return {"model": model(), "loss": CROSS_ENTROPY, "data": zoo.batches(8, 8), **parts}


def made(**parts: Any) -> Training:
    """A training made as outside of the tests, where nothing has checked the types before."""
    training = object.__new__(Training)
    inspect.unwrap(Training.__init__)(training, **good(**parts))
    return training


def frozen() -> nn.Module:
    return model().requires_grad_(requires_grad=False)


def inferring() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(2, 2)


def sparse() -> nn.Module:
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(model.weight.detach().to_sparse())
    return model


def complex_() -> nn.Module:
    return nn.Linear(2, 2, dtype=torch.complex64)


def of_wider_copies() -> dict[str, Any]:
    narrow = model().half()
    return {
        "model": narrow,
        "optimizer": torch.optim.SGD([p.detach().float() for p in narrow.parameters()], lr=0.1),
    }


AT_THE_DOOR: dict[str, tuple[dict[str, Any], str]] = {
    "model: a state dictionary": (
        {"model": {"w": 1}},
        r"`model` must be a torch.nn.Module, not {'w': 1} \(dict\)",
    ),
    "model: None": ({"model": None}, r"`model` must be a torch.nn.Module, not None"),
    "model: nothing to train": ({"model": nn.Tanh()}, "`model` has no parameters: .* not Tanh"),
    "model: all frozen": (
        {"model": frozen()},
        "`model`: all 4 parameter tensors are frozen; set requires_grad",
    ),
    "model: sparse": ({"model": sparse()}, "`model`: parameter `weight` is torch.sparse_coo; hold it dense"),
    "model: complex": ({"model": complex_()}, "`model`: parameter `weight` is complex; hold its real"),
    "model: meta": ({"model": model().to("meta")}, "`model`: parameter `0.weight` is on the meta device"),
    "model: inference": ({"model": inferring()}, "`model`: parameter `weight` is of torch.inference_mode"),
    "loss: a string": (
        {"loss": "mse"},
        r"`loss` must be a function loss\(model, batch\) .*, not 'mse' \(str\)",
    ),
    "loss: a criterion": (
        {"loss": nn.MSELoss()},
        r"`loss` must be .*, and MSELoss\(\) compares .* unstuck.supervised\(MSELoss\(\)\)",
    ),
    "loss: a criterion as a function": (
        {"loss": nn.functional.cross_entropy},
        r"`loss` must be .* and cross_entropy compares .* unstuck.supervised\(cross_entropy\)",
    ),
    "data: a number": ({"data": 3}, r"`data` must give batches .* not 3 \(int\)"),
    "data: a tensor": ({"data": torch.zeros(3)}, "`data` must give batches when iterated: pass a DataLoader"),
    "data: an empty list": (
        {"data": []},
        r"`data` gave no batch: pass .* with at least one, not \[\] \(list\)",
    ),
    "data: a generator": ({"data": (x for x in [1])}, "`data` can be iterated only once: pass a DataLoader"),
    "data: an iterator": ({"data": iter([1])}, "`data` can be iterated only once: pass a DataLoader"),
    "data: an empty loader": (
        {"data": DataLoader(TensorDataset(torch.zeros(3, 2)), batch_size=4, drop_last=True)},
        "`data` gave no batch: .*DataLoader",
    ),
    "validation: a number": ({"validation": 3}, r"`validation` must give batches .* not 3 \(int\)"),
    "optimizer: a class": (
        {"optimizer": torch.optim.SGD},
        "`optimizer` must be a torch.optim.Optimizer, not <class",
    ),
    "clip: not a norm": ({"clip": -1.0}, r"`clip` must be a norm above 0, .* not -1.0 \(float\)"),
    "schedule_every: no number of updates": (
        {"schedule_every": 0},
        r"`schedule_every` must be a number of updates above 0, or None, not 0 \(int\)",
    ),
    "optimizer: of wider copies": (
        of_wider_copies(),
        r"`optimizer` moves wider copies of the parameters of `model`, which are float16: make it from",
    ),
    "scheduler: a number": (
        {"scheduler": 0.1},
        r"`scheduler` must have a step\(\) method.* not 0.1 \(float\)",
    ),
    "scheduler: a class": (
        {"scheduler": torch.optim.lr_scheduler.StepLR},
        r"`scheduler` must have a step\(\) method.* not <class",
    ),
}


@pytest.mark.parametrize(("parts", "message"), AT_THE_DOOR.values(), ids=AT_THE_DOOR)
def test_a_training_that_cannot_be_one_is_refused_when_it_is_made(parts, message):
    with pytest.raises(TrainingError, match=message) as raised:
        made(**parts)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_model_must_have_seen_a_batch():
    with pytest.raises(
        TrainingError, match="`model`: parameter `weight` has no shape yet: run the model on one"
    ):
        Training(**good(model=nn.LazyLinear(3)))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_refused():
    scripted = torch.jit.trace(model(), torch.zeros(2, zoo.FEATURES))
    with pytest.raises(TrainingError, match="`model` is TorchScript, whose parameters"):
        Training(**good(model=scripted))


def of(function: Callable[[Tensor], Any]) -> Loss:
    """A loss that does something to the usual one."""
    return lambda given, batch: function(CROSS_ENTROPY(given, batch))


def without_grad(given: nn.Module, batch: Any) -> Tensor:
    with torch.no_grad():
        return CROSS_ENTROPY(given, batch)


def per_example(given: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(given(batch[0]), batch[1], reduction="none")


def on_meta(given: nn.Module, batch: Any) -> Tensor:
    return CROSS_ENTROPY(given, (batch[0].to("meta"), batch[1]))


def rooted(given: nn.Module, batch: Any) -> Tensor:
    return CROSS_ENTROPY(given, batch) + given[0].weight.mul(0.0).abs().sum().sqrt()


def broken() -> nn.Module:
    made = model()
    with torch.no_grad():
        made[2].bias[0] = math.nan
    return made


class Failing:
    def __init__(self, after: int) -> None:
        self.after = after

    def __iter__(self) -> Iterator[Any]:
        yield from zoo.batches(8, 8, 8)[: self.after]
        msg = "file\nnot found"
        raise OSError(msg)


class Barren:
    def __iter__(self) -> Iterator[Any]:
        return iter(())


(INPUTS, TARGETS) = zoo.batches(4)[0]
WITH_NAN = (INPUTS.where(INPUTS < 1.0, math.nan), TARGETS)

WHEN_MEASURED: dict[str, tuple[dict[str, Any], str]] = {
    "loss: not a tensor": (
        {"loss": of(lambda loss: loss.item())},
        "`loss` must return a scalar tensor, not float: ",
    ),
    "loss: a tuple": ({"loss": of(lambda loss: (loss, 1))}, "`loss` must return a scalar tensor, not tuple"),
    "loss: None": ({"loss": of(lambda _: None)}, "`loss` must return a scalar tensor, not NoneType"),
    "loss: one for each example": (
        {"loss": per_example},
        r"`loss` must .* not a float32 tensor of shape \[8\] on cpu",
    ),
    "loss: complex": (
        {"loss": of(lambda loss: loss + 1j)},
        r"`loss` must return a real scalar, not a complex64",
    ),
    "loss: detached": ({"loss": of(Tensor.detach)}, "`loss` does not depend on the parameters of `model`"),
    "loss: without gradient": ({"loss": without_grad}, "`loss` does not depend on the parameters of `model`"),
    "loss: of nothing": (
        {"loss": of(lambda _: torch.ones((), requires_grad=True) * 2)},
        "`loss` does not depend",
    ),
    "loss: raises": (
        {"loss": of(lambda _: {}["key"])},
        r"`loss` failed on a batch of `data`, .*: KeyError: 'key'",
    ),
    "loss: on two devices": (
        {"loss": on_meta},
        "`loss` failed on a batch .* not on the expected device meta",
    ),
    "loss: without a value": (
        {"loss": of(lambda loss: loss.to("meta"))},
        r"`loss` must return .* \[\] on meta: take",
    ),
    "data: wrong shape": (
        {"data": zoo.batches(8, features=5)},
        r"`loss` failed on a batch of `data`, \(float32\[8, 5\], int64\[8\]\): RuntimeError: mat1 and mat2",
    ),
    "data: not pairs": (
        {"data": [INPUTS]},
        r"`data` must give batches \(inputs, targets\) for `supervised`, not",
    ),
    "data: triples": (
        {"data": [(INPUTS, TARGETS, 1)]},
        r"`data` must give batches .*, not a tuple of 3; pass",
    ),
    "data: nothing after all": ({"data": Barren()}, "`data` gave no batch: pass a DataLoader or a list"),
    "data: fails at once": ({"data": Failing(0)}, "`data` failed to give batch 1: OSError: file not found"),
    "data: fails later": ({"data": Failing(2)}, "`data` failed to give batch 3: OSError: file not found"),
    "data: labels of other classes": (
        {"data": [(INPUTS, TARGETS + 7)]},
        "`loss` failed on a batch.* IndexError",
    ),
}


@pytest.mark.parametrize(("parts", "message"), WHEN_MEASURED.values(), ids=WHEN_MEASURED)
def test_a_training_that_cannot_be_evaluated_is_refused_and_left_as_it_was(parts, message):
    training = made(**parts)
    with unchanged(training), pytest.raises(TrainingError, match=message) as raised:
        diagnose(training, budget=2.0)
    assert "\n" not in str(raised.value)


NOT_FINITE: dict[str, tuple[dict[str, Any], str]] = {
    "loss: NaN": ({"loss": of(lambda loss: loss * math.nan)}, "loss"),
    "loss: infinite": ({"loss": of(lambda loss: loss + math.inf)}, "loss"),
    "loss: infinite slope": ({"loss": rooted}, "0.weight"),
    "model: NaN": ({"model": broken()}, "2.bias"),
    "data: NaN": ({"data": [WITH_NAN]}, "batch"),
}


@pytest.mark.parametrize(("parts", "where"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_what_is_not_finite_is_a_verdict_that_names_where_it_arises(parts, where):
    training = made(**parts)
    with unchanged(training):
        diagnosis = diagnose(training, budget=2.0)
    assert diagnosis.cause is Cause.NON_FINITE
    assert where in diagnosis.findings[0].explanation


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_must_be_a_number_of_seconds(budget):
    training = Training(**good())
    with unchanged(training), pytest.raises(UnstuckError, match=f"`budget` must be .* above 0, not {budget}"):
        diagnose(training, budget=budget)


@pytest.mark.parametrize(
    "call",
    [
        unstuck.diagnose,
        unstuck.batch_size,
        unstuck.sharpness,
        unstuck.spectrum,
        unstuck.surface,
        unstuck.escape,
    ],
)
def test_what_is_no_training_and_what_is_no_time_is_said_in_a_line(call):
    call = inspect.unwrap(call)
    with pytest.raises(
        TrainingError, match=r"`training` must be an unstuck.Training.*, not Linear"
    ) as raised:
        call(nn.Linear(2, 2))
    assert "\n" not in str(raised.value)
    with pytest.raises(UnstuckError, match="`budget` must be a number of seconds above 0, not '60s'"):
        call(Training(**good()), budget="60s")


def test_a_message_does_not_show_more_than_a_line_of_what_came():
    with pytest.raises(TrainingError) as raised:
        made(model=list(range(10_000)))
    assert len(str(raised.value)) < 200
