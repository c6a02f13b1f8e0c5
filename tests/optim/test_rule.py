import inspect
import math

import pytest

import unstuck.optim as everything
from unstuck.optim import (
    AverageOfSquares,
    ClipByNorm,
    DecoupledWeightDecay,
    HeavyBall,
    MovingAverage,
    Nesterov,
    OptimizerError,
    Role,
    SumOfSquares,
    TrustRatio,
    WeightDecay,
    adam,
    adamw,
    chain,
    gradient_descent,
    lamb,
    momentum,
    radam,
    recipes,
)

ALSO = {"chain", *(name for name in everything.__all__ if name[0].isupper())}  # what recipes are made of
RULES = [value() for name, value in vars(recipes).items() if name in everything.__all__ and name not in ALSO]


def test_a_chain_of_chains_is_one_chain():
    assert chain(chain(HeavyBall()), chain(), SumOfSquares()) == chain(HeavyBall(), SumOfSquares())
    assert chain(adam()) == adam()
    assert chain() == gradient_descent()


@pytest.mark.parametrize("rule", RULES, ids=map(str, RULES))
def test_a_rule_is_written_as_the_python_that_makes_it(rule):
    assert eval(repr(rule), vars(everything)) == rule  # noqa: S307
    assert hash(rule) == hash(chain(*rule.parts))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((HeavyBall(), MovingAverage()), "one momentum at most, not HeavyBall"),
        ((SumOfSquares(), AverageOfSquares()), "one scale at most, not SumOfSquares"),
        ((WeightDecay(0.1), ClipByNorm(1.0)), "put it first in the chain"),
        ((ClipByNorm(1.0), ClipByNorm(2.0)), "at most"),
        (("adam",), "not of 'adam'"),
        ((adam,), "made of parts"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_line(parts, words):
    with pytest.raises(OptimizerError, match=words) as error:
        inspect.unwrap(chain)(*parts)  # as outside of the tests, where nothing has checked the types before
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeavyBall(-0.1),
        lambda: HeavyBall(dampening=math.nan),
        lambda: HeavyBall(dampening=-0.1),
        lambda: HeavyBall(float("nan")),
        lambda: MovingAverage(1.0),
        lambda: AverageOfSquares(-0.5),
        lambda: SumOfSquares(eps=-1.0),
        lambda: WeightDecay(float("inf")),
        lambda: ClipByNorm(-1.0),
        lambda: TrustRatio(-1.0),
        lambda: adam(beta2=1.5),
        lambda: lamb(eps=-1e-8),
    ],
)
def test_numbers_that_make_no_sense_are_refused_when_the_part_is_made(make):
    with pytest.raises(OptimizerError, match=r"`\w+` (must|is the weight)"):
        make()


# A row each, which the formatter would take apart.
@pytest.mark.parametrize(
    ("rule", "role", "new", "expected"),
    [
        (adam(), Role.SCALE, SumOfSquares(), chain(MovingAverage(), SumOfSquares())),
        (adam(), Role.MOMENTUM, Nesterov(), chain(Nesterov(), AverageOfSquares())),
        (adam(), Role.SCALE, None, chain(MovingAverage())),
        (momentum(weight_decay=0.1), Role.SCALE, SumOfSquares(), chain(momentum(weight_decay=0.1), SumOfSquares())),
        (gradient_descent(weight_decay=0.1), Role.MOMENTUM, HeavyBall(), momentum(weight_decay=0.1)),
        (chain(SumOfSquares()), Role.MOMENTUM, HeavyBall(), chain(HeavyBall(), SumOfSquares())),
        (chain(TrustRatio()), Role.SCALE, SumOfSquares(), chain(SumOfSquares(), TrustRatio())),
        (adamw(), Role.SCALE, radam().parts[1], chain(radam(), DecoupledWeightDecay(0.01))),
        (adam(), Role.MOMENTUM, None, chain(AverageOfSquares())),
        (gradient_descent(), Role.MOMENTUM, None, gradient_descent()),
    ],
)  # fmt: skip
def test_a_part_is_replaced_in_its_place_and_a_new_one_comes_where_it_does_in_adam(rule, role, new, expected):
    assert rule.replaced(role, new) == expected


def test_the_public_names_are_sorted_and_there():
    assert everything.__all__ == sorted(everything.__all__)
    assert all(
        getattr(everything, name).__module__.startswith("unstuck.optim") for name in everything.__all__
    )
