from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problem import follow

from unstuck import optim
from unstuck.optim import DecoupledWeightDecay, Optimizer, chain

SGD, Adam, RMSprop = torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop

# By name: the recipe, PyTorch's optimizer of the same name, and a rate.
METHODS = {
    "gradient_descent": (optim.gradient_descent, SGD, 0.1),
    "momentum": (optim.momentum, partial(SGD, momentum=0.9), 0.03),
    "dampened momentum": (
        partial(optim.momentum, 0.8, dampening=0.3),
        partial(SGD, momentum=0.8, dampening=0.3),
        0.03,
    ),
    "nesterov": (optim.nesterov, partial(SGD, momentum=0.9, nesterov=True), 0.03),
    "adagrad": (optim.adagrad, torch.optim.Adagrad, 0.03),
    "begun adagrad": (
        partial(optim.adagrad, initial=0.1),
        partial(torch.optim.Adagrad, initial_accumulator_value=0.1),
        0.03,
    ),
    "rmsprop": (optim.rmsprop, RMSprop, 0.003),
    "centred rmsprop": (partial(optim.rmsprop, centred=True), partial(RMSprop, centered=True), 0.003),
    "rmsprop with momentum": (
        partial(optim.rmsprop, 0.9, decay=0.8, eps=1e-6),
        partial(RMSprop, alpha=0.9, momentum=0.8, eps=1e-6),
        0.001,
    ),
    "adam": (optim.adam, Adam, 0.003),
    "adam of other numbers": (
        partial(optim.adam, 0.5, 0.9, eps=1e-3),
        partial(Adam, betas=(0.5, 0.9), eps=1e-3),
        0.01,
    ),
    "amsgrad": (optim.amsgrad, partial(Adam, amsgrad=True), 0.003),
    "adamw": (optim.adamw, torch.optim.AdamW, 0.003),
    "nadam": (optim.nadam, torch.optim.NAdam, 0.003),
    "radam": (optim.radam, torch.optim.RAdam, 0.01),
}
# Other numbers of a method in double precision alone.
TYPED = [(name, torch.float64) for name in METHODS]
TYPED += [(name, torch.float32) for name in METHODS if " " not in name]


@pytest.mark.parametrize("name", METHODS)
def test_with_defaults_every_step_is_pytorchs_to_the_bit(name):
    recipe, theirs, lr = METHODS[name]
    follow(
        lambda model: Optimizer(model.parameters(), recipe(), lr=lr),
        lambda model: theirs(model.parameters(), lr=lr, foreach=False),
        steps=60,
    )


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_two_hundred_steps_with_groups_decay_maximize_and_a_changing_rate_are_pytorchs(name, dtype):
    recipe, theirs, lr = METHODS[name]

    def ours(model):
        first, *others, last = model.parameters()
        groups = [
            {"params": [first], "rule": recipe(weight_decay=0.1)},
            {"params": others, "lr": lr / 2, "rule": recipe(weight_decay=0.0)},
            {"params": [last], "lr": lr / 10, "maximize": True},
        ]
        return Optimizer(groups, recipe(weight_decay=0.01), lr=lr)

    def reference(model):
        first, *others, last = model.parameters()
        groups = [
            {"params": [first], "weight_decay": 0.1},
            {"params": others, "lr": lr / 2, "weight_decay": 0.0},
            {"params": [last], "lr": lr / 10, "maximize": True},
        ]
        return theirs(groups, lr=lr, weight_decay=0.01, foreach=False)

    follow(ours, reference, dtype=dtype, changing=True)


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        (chain(optim.nadam(), DecoupledWeightDecay(0.1)), torch.optim.NAdam),
        (chain(optim.radam(), DecoupledWeightDecay(0.1)), torch.optim.RAdam),
    ],
    ids=["nadam", "radam"],
)
def test_decoupled_decay_can_be_chained_to_any_rule(rule, theirs):
    follow(
        lambda model: Optimizer(model.parameters(), rule, lr=0.01),
        lambda model: theirs(
            model.parameters(), lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, foreach=False
        ),
    )


# PyTorch's own two ways differ from each other for the others, in the order of rounding.
AS_FOREACH = set(METHODS) - {"adagrad", "begun adagrad", "nadam", "radam"}


@pytest.mark.parametrize("name", METHODS)
def test_pytorchs_foreach_agrees_as_far_as_it_does_with_pytorch(name):
    recipe, theirs, lr = METHODS[name]
    close = partial(torch.allclose, rtol=1e-12, atol=1e-13)
    follow(
        lambda model: Optimizer(model.parameters(), recipe(), lr=lr),
        lambda model: theirs(model.parameters(), lr=lr, foreach=True),
        dtype=torch.float64,
        steps=60,
        agree=torch.equal if name in AS_FOREACH else close,
    )


FUSED = [name for name in METHODS if name not in {"nadam", "radam"} and "rmsprop" not in name]


@pytest.mark.parametrize("name", [name for name in FUSED if name != "begun adagrad"])
def test_fused_is_pytorchs_fused_to_the_bit(name):
    recipe, theirs, lr = METHODS[name]
    follow(
        lambda model: Optimizer(model.parameters(), recipe(weight_decay=0.01), lr=lr, fused=True),
        lambda model: theirs(model.parameters(), lr=lr, weight_decay=0.01, fused=True),
        steps=60,
        changing=True,
    )


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(FUSED)))
def test_fused_is_refused_where_pytorch_has_no_kernel(name):
    recipe, _, lr = METHODS[name]
    with pytest.raises(optim.OptimizerError, match="no fused kernel for chain"):
        Optimizer([torch.zeros(2, requires_grad=True)], recipe(), lr=lr, fused=True)


def _run(rule, gradients, lr):
    """The path of one parameter, begun at ones, that is shown these gradients."""
    theta = torch.ones_like(gradients[0], requires_grad=True)
    optimizer = Optimizer([theta], rule, lr=lr)
    path = []
    for gradient in gradients:
        theta.grad = gradient.clone()
        optimizer.step()
        path.append(theta.detach().clone())
    return path


@pytest.fixture
def gradients():
    drawn = torch.randn(30, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return list(drawn * torch.logspace(-3, 2, 4, dtype=torch.float64))


def _close(path, expected):
    assert all(torch.allclose(a, b, rtol=1e-12, atol=0.0) for a, b in zip(path, expected, strict=True))


def test_adagrad_of_the_mean_divides_by_the_root_mean_square_of_all_gradients_so_far(gradients):
    theta, expected = torch.ones(3, 4, dtype=torch.float64), []
    for t, gradient in enumerate(gradients):
        sigma = torch.stack(gradients[: t + 1]).square().mean(0).sqrt()
        theta = theta - 0.01 / sigma * gradient
        expected.append(theta)
    _close(_run(optim.adagrad_mean(), gradients, 0.01), expected)


def test_rmsprop_from_the_first_gradient_begins_with_its_magnitude(gradients):
    theta, sigma, expected = torch.ones(3, 4, dtype=torch.float64), gradients[0].abs(), []
    for t, gradient in enumerate(gradients):
        if t > 0:
            sigma = (0.9 * sigma**2 + 0.1 * gradient**2).sqrt()
        theta = theta - 0.01 / sigma * gradient
        expected.append(theta)
    _close(_run(optim.rmsprop_from_first(0.9), gradients, 0.01), expected)


@pytest.mark.parametrize("rule", [optim.adagrad_mean(), optim.rmsprop_from_first()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_that_has_always_been_zero_moves_nothing(rule, dtype):
    assert _run(rule, [torch.zeros(3, dtype=dtype)] * 3, 0.1)[-1].tolist() == [1.0, 1.0, 1.0]


def test_adagrad_of_the_mean_at_a_rate_over_root_t_is_adagrad_of_the_sum(gradients):
    one, other = (torch.ones(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    of_the_mean = Optimizer([one], optim.adagrad_mean(), lr=1.0)
    of_the_sum = Optimizer([other], optim.adagrad(eps=0.0), lr=0.1)
    for t, gradient in enumerate(gradients, 1):
        of_the_mean.param_groups[0]["lr"] = 0.1 / t**0.5
        one.grad = other.grad = gradient
        of_the_mean.step()
        of_the_sum.step()
        assert torch.allclose(one, other, rtol=1e-12, atol=0.0)


def test_lars_is_the_papers_algorithm(gradients):
    rate, mu, kappa, decay = 0.5, 0.9, 0.02, 0.01
    theta, velocity, expected = torch.ones(3, 4, dtype=torch.float64), 0.0, []
    for gradient in gradients:
        local = kappa * theta.norm() / (gradient.norm() + decay * theta.norm())
        velocity = mu * velocity + rate * local * (gradient + decay * theta)
        theta = theta - velocity
        expected.append(theta)
    _close(_run(optim.lars(mu, coefficient=kappa, weight_decay=decay), gradients, rate), expected)


def test_lamb_is_the_papers_algorithm(gradients):
    rate, beta1, beta2, eps, decay = 0.01, 0.9, 0.99, 1e-6, 0.1
    theta, m, v, expected = torch.ones(3, 4, dtype=torch.float64), 0.0, 0.0, []
    for t, gradient in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        r = m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps)
        whole = r + decay * theta
        theta = theta - rate * theta.norm() / whole.norm() * whole
        expected.append(theta)
    _close(_run(optim.lamb(beta1, beta2, eps=eps, weight_decay=decay), gradients, rate), expected)


@pytest.mark.parametrize("rule", [optim.lars(), optim.lamb()], ids=["lars", "lamb"])
def test_layer_wise_rates_leave_the_ratio_out_where_a_norm_is_zero(rule):
    theta = torch.zeros(3, requires_grad=True)
    optimizer = Optimizer([theta], rule, lr=0.1)
    theta.grad = torch.zeros(3)
    optimizer.step()
    assert theta.tolist() == [0.0, 0.0, 0.0]
    theta.grad = torch.ones(3)
    optimizer.step()
    assert theta.isfinite().all()
    assert (theta < 0).all()


@pytest.mark.parametrize("scale", [2.0**-7, 2.0**7])  # powers of 2, which round nothing
def test_layer_wise_steps_do_not_depend_on_the_length_of_the_gradient(scale, gradients):
    rules = [optim.lars(weight_decay=0.0), optim.lamb(eps=0.0, weight_decay=0.0)]
    for rule in rules:
        _close(_run(rule, [scale * g for g in gradients], 0.1), _run(rule, gradients, 0.1))


FRACTION = st.floats(0.0, 0.999)
SMALL = st.floats(0.0, 1.0)
EPS = st.floats(1e-12, 1.0)
RATE_AND_DECAY = {"lr": SMALL, "weight_decay": SMALL}


def _sgd_pair(mu, dampening, kind, **both):
    if kind == "nesterov" and mu > 0.0:  # PyTorch refuses Nesterov without momentum
        return optim.nesterov(mu, weight_decay=both["weight_decay"]), partial(
            SGD, momentum=mu, nesterov=True, **both
        )
    rule = optim.momentum(mu, dampening=dampening, weight_decay=both["weight_decay"])
    # Without momentum PyTorch has no dampening either.
    return (rule if mu > 0.0 else optim.gradient_descent(weight_decay=both["weight_decay"])), partial(
        SGD, momentum=mu, dampening=dampening, **both
    )


def _adagrad_pair(eps, initial, **both):
    rule = optim.adagrad(eps=eps, initial=initial, weight_decay=both["weight_decay"])
    return rule, partial(torch.optim.Adagrad, eps=eps, initial_accumulator_value=initial, **both)


def _rmsprop_pair(beta, eps, mu, *, centred, **both):
    rule = optim.rmsprop(beta, eps=eps, centred=centred, decay=mu, weight_decay=both["weight_decay"])
    return rule, partial(RMSprop, alpha=beta, eps=eps, momentum=mu, centered=centred, **both)


ADAMS = {
    optim.adam: Adam,
    optim.amsgrad: partial(Adam, amsgrad=True),
    optim.adamw: torch.optim.AdamW,
    optim.nadam: torch.optim.NAdam,
    optim.radam: torch.optim.RAdam,
}


def _adam_pair(recipe, betas, eps, **both):
    return recipe(*betas, eps=eps, weight_decay=both["weight_decay"]), partial(
        ADAMS[recipe], betas=betas, eps=eps, **both
    )


PAIRS = st.one_of(
    st.builds(_sgd_pair, FRACTION, SMALL, st.sampled_from(["heavy ball", "nesterov"]), **RATE_AND_DECAY),
    st.builds(_adagrad_pair, EPS, SMALL, **RATE_AND_DECAY),
    st.builds(_rmsprop_pair, FRACTION, EPS, FRACTION, centred=st.booleans(), **RATE_AND_DECAY),
    st.builds(_adam_pair, st.sampled_from(list(ADAMS)), st.tuples(FRACTION, FRACTION), EPS, **RATE_AND_DECAY),
)


@given(PAIRS, st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=3), st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whatever_the_numbers_and_shapes_every_recipe_is_pytorchs(pair, shapes, maximize):
    rule, theirs = pair
    generator = torch.Generator().manual_seed(0)
    one, other = ([torch.ones(shape, requires_grad=True) for shape in shapes] for _ in range(2))
    reference = theirs(other, maximize=maximize, foreach=False)
    ours = Optimizer(one, rule, lr=reference.param_groups[0]["lr"], maximize=maximize)
    for _ in range(6):
        for mine, same in zip(one, other, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            same.grad = mine.grad.clone()
        ours.step()
        reference.step()
        assert all(
            torch.equal(mine.nan_to_num(), same.nan_to_num()) for mine, same in zip(one, other, strict=True)
        )
