import copy
import io
import itertools
from functools import partial

import pytest
import torch
from problem import batches, follow, network
from torch import nn

from unstuck import optim
from unstuck.optim import ClipByNorm, ClipByValue, HeavyBall, Optimizer, OptimizerError, chain, pieces

# A row each, which the formatter would take apart.
RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        optim.gradient_descent, optim.momentum, optim.nesterov, optim.adagrad, optim.adagrad_mean, optim.rmsprop,
        optim.rmsprop_from_first, optim.adam, optim.adamw, optim.nadam, optim.radam, optim.amsgrad, optim.lars,
        optim.lamb,
    )
}  # fmt: skip
TORCH = {
    "gradient_descent": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "amsgrad": partial(torch.optim.Adam, amsgrad=True),
}


def train(model, optimizer, steps, begin=0):
    for inputs, labels in itertools.islice(batches(torch.float32), begin, begin + steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def weights(model):
    return torch.cat([param.detach().flatten() for param in model.parameters()])


@pytest.mark.parametrize("name", RECIPES)
def test_a_checkpoint_in_the_middle_of_a_run_goes_on_to_the_bit(name):
    through = network(torch.float32)
    optimizer = Optimizer(through.parameters(), RECIPES[name](), lr=0.01)
    train(through, optimizer, 15)
    file = io.BytesIO()
    torch.save({"model": through.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(through, optimizer, 15, begin=15)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    resumed.load_state_dict(saved["model"])
    optimizer = Optimizer(resumed.parameters(), RECIPES[name](), lr=0.5)
    optimizer.load_state_dict(saved["optimizer"])
    train(resumed, optimizer, 15, begin=15)
    assert torch.equal(weights(resumed), weights(through))


def test_a_copy_of_model_and_optimizer_goes_the_same_way():
    model = network(torch.float32)
    optimizer = Optimizer(model.parameters(), optim.adam(), lr=0.01)
    train(model, optimizer, 10)
    twin, its_optimizer = copy.deepcopy((model, optimizer))
    train(model, optimizer, 10)
    train(twin, its_optimizer, 10)
    assert torch.equal(weights(model), weights(twin))


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_saved_does_not_depend_on_the_kernel(fused):
    model = network(torch.float32)
    optimizer = Optimizer(model.parameters(), optim.adam(), lr=0.01, fused=fused)
    train(model, optimizer, 5)
    other = Optimizer(model.parameters(), optim.adam(), lr=0.01, fused=not fused)
    other.load_state_dict(optimizer.state_dict())
    assert {key: type(value) for key, value in other.state[model[0].weight].items()} == {
        "step": int,
        "exp_avg": torch.Tensor,
        "exp_avg_sq": torch.Tensor,
    }


def test_a_state_of_another_rule_is_refused_and_nothing_is_changed():
    model = network(torch.float32)
    adam = Optimizer(model.parameters(), optim.adam(), lr=0.01)
    momentum = Optimizer(model.parameters(), optim.momentum(), lr=0.5)
    train(model, adam, 1)
    with pytest.raises(OptimizerError, match=r"build the optimizer with chain\(MovingAverage\(beta=0.9"):
        momentum.load_state_dict(adam.state_dict())
    assert momentum.param_groups[0]["lr"] == 0.5
    assert momentum.param_groups[0]["rule"] == optim.momentum()


def test_a_state_of_torch_optim_is_refused():
    model = network(torch.float32)
    ours = Optimizer(model.parameters(), optim.adam(), lr=0.01)
    with pytest.raises(OptimizerError, match=r"not of unstuck\.optim"):
        ours.load_state_dict(torch.optim.Adam(model.parameters()).state_dict())


def test_the_closure_is_evaluated_once_with_gradients_and_its_loss_returned():
    theta = torch.tensor([3.0], requires_grad=True)
    optimizer = Optimizer([theta], optim.gradient_descent(), lr=0.5)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = theta.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert calls == [True]
    assert theta.item() == 0.0
    assert optimizer.step() is None


def test_a_sparse_gradient_is_refused_before_anything_is_changed():
    dense, table = nn.Linear(2, 2), nn.Embedding(5, 2, sparse=True)
    optimizer = Optimizer([*dense.parameters(), table.weight], optim.adam(), lr=0.1)
    dense(table(torch.tensor([1, 2]))).sum().backward()
    before = weights(dense).clone()
    with pytest.raises(OptimizerError, match=r"shape \(5, 2\) is sparse"):
        optimizer.step()
    assert torch.equal(weights(dense), before)
    assert not optimizer.state


@pytest.mark.parametrize("name", TORCH)
def test_complex_parameters_are_stepped_as_in_pytorch(name):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, dtype=torch.complex128, generator=generator)
    one, other = (start.clone().requires_grad_() for _ in range(2))
    ours = Optimizer([one], RECIPES[name](weight_decay=0.1), lr=0.01)
    theirs = TORCH[name]([other], lr=0.01, weight_decay=0.1, foreach=False)
    for step in range(20):
        gradient = torch.randn(3, 4, dtype=torch.complex128, generator=generator)
        # What backward gives may be conjugate lazily.
        one.grad = gradient.conj() if step % 2 else gradient
        other.grad = one.grad.resolve_conj().clone()
        ours.step()
        theirs.step()
        # PyTorch's kernels for complex numbers round once more in a sum of multiples.
        assert torch.allclose(one, other, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", TORCH)
def test_tensors_of_any_size_and_layout_are_stepped_as_in_pytorch(name, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 2**12)
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (0,), (), (9_001,), (2,), (2**12,), (2**12 + 1,), (3_000,), (3_000,)]
    starts = [torch.randn(shape, generator=generator) for shape in shapes]
    starts.append(torch.randn(2, 40, 10, 10, generator=generator).to(memory_format=torch.channels_last))
    starts.append(torch.randn(90, 60, generator=generator).t())
    one, other = ([start.clone().requires_grad_() for start in starts] for _ in range(2))
    ours = Optimizer(one, RECIPES[name](weight_decay=0.1), lr=0.01)
    theirs = TORCH[name](other, lr=0.01, weight_decay=0.1, foreach=False)
    for _ in range(3):
        for a, b in zip(one, other, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        ours.step()
        theirs.step()
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", TORCH)
def test_parameters_without_a_gradient_now_and_then_keep_their_own_count(name):
    generator = torch.Generator().manual_seed(0)
    one, other = ([torch.ones(3, requires_grad=True) for _ in range(4)] for _ in range(2))
    ours = Optimizer(one, RECIPES[name](), lr=0.01)
    theirs = TORCH[name](other, lr=0.01, foreach=False)
    for step in range(12):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            a.grad = torch.randn(3, generator=generator) if step % (place + 1) == 0 else None
            b.grad = None if a.grad is None else a.grad.clone()
        ours.step()
        theirs.step()
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_gradients_are_left_alone():
    theta = torch.ones(3, requires_grad=True)
    rule = chain(ClipByNorm(0.1), ClipByValue(0.05), optim.adam(weight_decay=0.1))
    optimizer = Optimizer([theta], rule, lr=0.1, maximize=True)
    theta.grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer.step()
    assert theta.grad.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("norm", [1e-3, 0.5, 1e3])
def test_clipping_by_the_norm_is_clip_grad_norm(norm):
    class Clipped(torch.optim.Adam):
        def step(self, closure=None):
            nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], norm)
            return super().step(closure)

    def groups(model):
        first, *others = model.parameters()
        return [{"params": [first]}, {"params": others, "lr": 0.001}]

    follow(
        lambda model: Optimizer(groups(model), chain(ClipByNorm(norm), optim.adam()), lr=0.01),
        lambda model: Clipped(groups(model), lr=0.01, foreach=False),
        steps=50,
    )


def test_clipping_by_value_bounds_what_comes_in_where_it_stands():
    theta = torch.zeros(3, requires_grad=True)
    before = Optimizer([theta], chain(ClipByValue(0.5), HeavyBall(0.9)), lr=1.0)
    theta.grad = torch.tensor([-2.0, 0.25, 2.0])
    before.step()
    before.step()
    assert torch.allclose(theta, -(1.0 + 1.9) * torch.tensor([-0.5, 0.25, 0.5]))
    after = Optimizer(
        [theta.detach_().zero_().requires_grad_()], chain(HeavyBall(1.0), ClipByValue(0.5)), lr=1.0
    )
    theta.grad = torch.tensor([-2.0, 0.2, 2.0])
    after.step()
    after.step()
    assert torch.allclose(theta, torch.tensor([1.0, -0.6, -1.0]))


def test_one_part_is_a_rule():
    theta = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([theta], HeavyBall(0.5), lr=1.0)
    theta.grad = torch.ones(1)
    optimizer.step()
    optimizer.step()
    assert theta.item() == -2.5


def test_schedulers_of_pytorch_change_the_rate():
    theta = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([theta], optim.gradient_descent(), lr=torch.tensor(1.0))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        theta.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
    assert theta.item() == -1.75


@pytest.mark.parametrize(
    ("group", "options", "words"),
    [
        ({}, {"lr": -0.1}, "`lr` must be a finite number and not negative, not -0.1"),
        ({}, {"lr": float("nan")}, "`lr` must be a finite number"),
        ({}, {"lr": torch.ones(2)}, r"`lr` must be one number, not a tensor of shape \(2,\)"),
        ({"lr": -1.0}, {"lr": 0.1}, "`lr` must be"),
        ({"weight_decay": 0.0}, {"lr": 0.1}, "`weight_decay` is part of a rule"),
        ({"betas": (0.9, 0.99)}, {"lr": 0.1}, "`betas` is part of a rule"),
        ({"rule": optim.lamb(), "fused": True}, {"lr": 0.1}, "no fused kernel"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(group, options, words):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], **group}]
    with pytest.raises(OptimizerError, match=words) as error:
        Optimizer(groups, optim.adam(), **options)
    assert "\n" not in str(error.value)
