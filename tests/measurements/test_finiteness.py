import math
from collections import namedtuple

import pytest
import torch
from tests.objective.fingerprint import unchanged
from torch import nn

from unstuck import Training, supervised
from unstuck.findings.finite import non_finite
from unstuck.measurements.model.finiteness import find_non_finite
from unstuck.objective import draw
from unstuck.objective.ledger import Ledger

LOSS = supervised(nn.functional.cross_entropy)


def data(examples=12):
    drawn = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 5, generator=drawn), torch.randint(3, (4,), generator=drawn))
        for _ in range(examples // 4)
    ]


def network(*between):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), *between, nn.Tanh(), nn.Linear(8, 3))


def look(training):
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    with unchanged(training):
        found = find_non_finite(training, batches)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    if found is not None:
        assert found.name in non_finite(found).explanation
    return found


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_number_in_the_data_is_found_in_its_batch(value):
    batches = data()
    batches[2][0][1, 3] = value
    found = look(Training(network(), LOSS, batches))
    # The infinity is first met in the data as well: no operation made it out of finite numbers.
    assert (found.place, found.name, found.batch) == ("data", "batch[0]", 2)


def test_batches_that_are_dictionaries_are_named_by_their_keys():
    batches = [{"x": x, "y": y} for x, y in data()]
    batches[1]["x"][0, 0] = math.nan
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch["x"]), batch["y"])  # noqa: E731
    assert look(Training(network(), loss, batches)).name == "batch['x']"


def test_a_broken_parameter_a_broken_buffer_and_a_broken_state_are_found():
    model = network(nn.BatchNorm1d(8))
    optimizer = torch.optim.Adam(model.parameters())
    LOSS(model, data()[0]).backward()
    optimizer.step()
    model[1].running_var[2] = math.nan
    assert look(Training(model, LOSS, data(), optimizer)).name == "1.running_var"
    optimizer.state[model[3].weight]["exp_avg_sq"][0, 0] = math.inf
    found = look(Training(model, LOSS, data(), optimizer))
    assert (found.place, found.name) == ("state", "exp_avg_sq of 3.weight")
    with torch.no_grad():
        model[3].bias[0] = math.nan
    assert look(Training(model, LOSS, data(), optimizer)).name == "3.bias"


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: (x - x).log(), "log"),
        (lambda x: (x - x) / (x - x), "div"),
        (lambda x: (1000.0 * x.abs() + 1000.0).exp(), "exp"),
    ],
)
def test_the_module_and_the_operation_that_break_the_forward_pass_are_named(function, operation):
    found = look(Training(network(Calls(function)), LOSS, data()))
    assert (found.place, found.name, found.operation, found.overflow) == ("forward", "1", operation, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_overflow_of_half_precision_is_told_from_what_float32_does_not_bear_either(dtype):
    def centred(x):
        squares = (x + 300.0).to(dtype).square()
        return 1e-3 * (squares - squares.mean()).float()

    beyond = network(Calls(lambda x: (10.0 * x.to(dtype) + 200.0).exp().float()))
    assert look(Training(beyond, LOSS, data())).overflow is False
    found = look(Training(network(Calls(centred)), LOSS, data()))
    if dtype is torch.float32:
        assert found is None
    else:
        assert (found.name, found.operation, found.dtype, found.overflow) == ("1", "pow", "float16", True)


def test_a_gradient_that_breaks_while_the_loss_is_finite_is_named_with_what_breaks_it():
    model = network(Calls(lambda x: x + (x - x).square().sum(1, keepdim=True).sqrt()))
    found = look(Training(model, LOSS, data()))
    assert (found.place, found.name) in [("gradient", "0.bias"), ("gradient", "0.weight")]
    assert (found.operation, found.module, found.kind) == ("sqrt", "1", "Inf")


def test_a_mask_in_a_buffer_is_none():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((5, 5), -math.inf).triu(1))
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            scores = (x.unsqueeze(2) * x.unsqueeze(1) + self.mask).softmax(-1)
            return self.layer((scores @ x.unsqueeze(-1)).squeeze(-1))

    assert look(Training(Masked(), LOSS, data())) is None


def attention(mask):
    """Scores among the five features, of which the mask leaves some out."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            scores = self.scale * x.unsqueeze(2) * x.unsqueeze(1)
            return self.layer((mask(scores).softmax(-1) @ x.unsqueeze(-1)).squeeze(-1))

    torch.manual_seed(0)
    return Masked()


LOWER = torch.ones(5, 5).tril()


@pytest.mark.parametrize(
    "mask",
    [
        lambda scores: scores.masked_fill(LOWER == 0.0, -math.inf),
        lambda scores: scores + LOWER.log(),
        lambda scores: torch.where(LOWER > 0.0, scores, -math.inf),
        lambda scores: scores + (1.0 - LOWER).half().mul(-65504.0).mul(2.0).float(),
    ],
)
def test_a_mask_is_not_blamed_whoever_is(mask):
    assert look(Training(attention(mask), LOSS, data())) is None

    def rooted(model, batch):
        return LOSS(model, batch) + (model.layer.bias * 0.0 - 1.0).sqrt().sum()

    found = look(Training(attention(mask), rooted, data()))
    assert (found.place, found.name, found.operation) == ("forward", "loss", "sqrt")


def test_a_row_that_is_masked_altogether_is_found_where_it_becomes_nan():
    everything = attention(lambda scores: scores.masked_fill(torch.ones(5, 5) > 0.0, -math.inf))
    found = look(Training(everything, LOSS, data()))
    assert (found.place, found.operation, found.kind) == ("forward", "softmax", "NaN")


def test_missing_values_are_not_blamed_for_what_they_do_not_do():
    batches = data()
    batches[1][0][0, 0] = math.nan

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0].nan_to_num()), batch[1])

    def broken(model, batch):
        return loss(model, batch) + (model[0].weight * 0.0).sum().log()

    assert look(Training(network(), loss, batches)) is None
    found = look(Training(network(), broken, batches))
    assert (found.place, found.operation, found.batch) == ("forward", "log", 0)


class Frame:
    def __init__(self, x, y):
        self.x, self.y = x, y


@pytest.mark.parametrize("shape", ["array", "object", "named tuple", "nested"])
def test_batches_of_all_shapes_are_searched(shape):
    pair = namedtuple("pair", "x y")
    makes, reads, name = {
        "array": (lambda x, y: (x.numpy(), y), lambda b: (torch.as_tensor(b[0]), b[1]), "batch[0]"),
        "object": (Frame, lambda b: (b.x, b.y), "batch.x"),
        "named tuple": (pair, lambda b: (b.x, b.y), "batch[0]"),
        "nested": (lambda x, y: {"in": [x], "out": y}, lambda b: (b["in"][0], b["out"]), "batch['in'][0]"),
    }[shape]
    batches = [makes(x, y) for x, y in data()]
    reads(batches[1])[0][0, 0] = math.inf
    found = look(Training(network(), lambda model, batch: LOSS(model, reads(batch)), batches))
    assert (found.place, found.name, found.batch) == ("data", name, 1)


def test_a_frozen_parameter_counts_where_it_matters():
    model = network()
    model.table = nn.Parameter(torch.full((3,), math.nan), requires_grad=False)
    assert look(Training(model, LOSS, data())) is None
    model[0].requires_grad_(requires_grad=False)
    with torch.no_grad():
        model[0].bias[1] = math.inf
    assert look(Training(model, LOSS, data())) is None  # tanh makes 1 of it, and no gradient comes back
    with torch.no_grad():
        model[0].weight[1, 1] = math.nan
    assert look(Training(model, LOSS, data())).name == "0.weight"


def test_a_buffer_that_nothing_reads_and_a_number_infinite_on_purpose_are_none():
    model = network()
    model.register_buffer("best", torch.tensor(math.nan))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.state[model[0].weight]["best"] = torch.tensor(math.inf)
    assert look(Training(model, LOSS, data(), optimizer)) is None


def test_the_state_of_lbfgs_is_searched():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

    def closure():
        optimizer.zero_grad()
        loss = LOSS(model, data()[0])
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.state[model[0].weight]["old_dirs"][0][3] = math.nan
    assert look(Training(model, LOSS, data(), optimizer)).name == "old_dirs of 0.weight"


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_are_searched_as_others():
    model = torch.compile(network(Calls(lambda x: (x - x).log())), backend="eager")
    LOSS(model, data()[0])
    found = look(Training(model, LOSS, data()))
    assert (found.place, found.operation) == ("forward", "log")
    assert look(Training(torch.compile(network(), backend="eager"), LOSS, data())) is None


def test_a_model_without_layers_is_searched():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(5, 3))

        def forward(self, x):
            return (x @ self.w) / self.w.norm()

    found = look(Training(Bare(), LOSS, data()))
    assert (found.place, found.name, found.operation) == ("forward", "Bare", "div")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_transformers_are_searched_with_batches_as_their_own(broken):
    transformers = pytest.importorskip("transformers")
    try:
        transformers.GPT2LMHeadModel  # noqa: B018
    except (ImportError, RuntimeError) as error:  # an image library that does not fit the installed torch
        pytest.skip(str(error))
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    if broken:
        with torch.no_grad():
            model.transformer.h[1].mlp.c_fc.bias.fill_(1e30)  # beyond float32 as a cube, and as a square
    tokens = torch.randint(20, (4, 8))
    batch = transformers.BatchEncoding({"input_ids": tokens, "labels": tokens})
    batch["attention_mask"] = torch.ones_like(tokens).index_fill(1, torch.tensor([0]), 0)
    found = look(Training(model, lambda model, batch: model(**batch).loss, [batch]))
    assert (found is not None) == broken
    if broken:
        # The cube within GELU does no harm, for tanh makes 1 of it.
        assert (found.place, found.name) == ("forward", "transformer.ln_f")


def test_a_training_that_fails_otherwise_is_left_to_the_objective():
    def failing(model, batch):
        raise RuntimeError

    def twice(model, batch):
        loss = LOSS(model, batch)
        loss.backward()
        return loss

    for loss in (failing, twice, lambda model, batch: 1.0, lambda model, batch: LOSS(model, batch).detach()):
        assert look(Training(network(), loss, data())) is None


def test_it_costs_one_gradient_where_all_is_finite():
    ledger, batches = Ledger(), draw(data(), seed=0, enough=lambda *_: False).batches
    find_non_finite(Training(network(nn.BatchNorm1d(8)), LOSS, data()), batches, ledger)
    assert ledger.gradients(12) == 1.0


@pytest.mark.parametrize("between", [(), (nn.BatchNorm1d(8),), (nn.Dropout(0.5),), (nn.LayerNorm(8),)])
def test_nothing_is_found_where_all_is_finite(between):
    assert look(Training(network(*between), LOSS, data())) is None


def test_what_makes_nan_of_the_infinities_of_a_mask_is_told_from_what_makes_it_of_finite_numbers():
    def entropy(model, batch):
        scores = model(batch[0]).masked_fill(torch.tensor([False, True, False]), -math.inf).log_softmax(1)
        return (scores.exp() * scores).sum(1).mean()

    found = look(Training(network(), entropy, data()))
    assert (found.place, found.operation, found.of_infinities) == ("forward", "mul", True)
    assert "out of infinities" in non_finite(found).explanation
    assert "xlogy" in non_finite(found).advice


def test_of_ctc_it_is_said_that_a_target_may_be_longer_than_its_frames():
    def aligned(model, batch):
        scores = model(batch[0])[:, None].expand(4, 2, 3).transpose(0, 1).log_softmax(2)
        return nn.functional.ctc_loss(
            scores, torch.ones(4, 3).long(), torch.full((4,), 2), torch.full((4,), 3)
        )

    found = look(Training(network(), aligned, data()))
    assert not found.of_infinities
    assert "zero_infinity=True" in non_finite(found).advice
