r"""Schedules: $\eta_t$ in $\theta \leftarrow \theta - \frac{\eta_t}{\sigma} m$, as pure functions of the step.

A schedule gives the factor that the base rate is multiplied by at step $t = 0, 1, \dots$, as
`torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)` takes it. `then` lets one follow another:
`warmup(500).then(cosine(10_000))`.
"""

import math
from dataclasses import replace

from unstuck.optim.errors import OptimizerError
from unstuck.optim.rectified import rectified
from unstuck.optim.schedule import Schedule
from unstuck.optim.values import counted, positive, share


def constant(factor: float = 1.0) -> Schedule:
    """Keep the rate at a multiple of itself, without an end.

    Raises:
        OptimizerError: `factor` is not positive.
    """
    positive("factor", factor)
    return Schedule(lambda _: factor, None, f"constant({factor})")


def warmup(steps: int, *, start: float = 0.0) -> Schedule:
    r"""Rise linearly from `start` to 1: $s + (1 - s) \frac{t + 1}{n}$ at step $t$ (Goyal et al., 2017, section 2.2).

    The first step has a rate already and the last one the whole of it.

    Args:
        steps: $n$.
        start: $s$.

    Raises:
        OptimizerError: `steps` is below 1 or `start` outside [0, 1].
    """
    counted("steps", steps)
    share("start", start)
    return Schedule(
        lambda step: min(1.0, start + (1.0 - start) * (step + 1) / steps),
        steps,
        f"warmup({steps}, start={start})",
    )


def rectified_warmup(beta: float = 0.999) -> Schedule:
    r"""Rise as RAdam does by itself: the factor $r_{t+1}$ (Liu et al., 2020, equation 5), 0 until it exists.

    For a rule whose scale is `AverageOfSquares(beta)`, with a bias at first too uncertain to be divided by.

    Args:
        beta: $\beta$ of the scale.

    Raises:
        OptimizerError: `beta` is not between 0 and 1.
    """
    if not 0.0 < beta < 1.0:
        msg = f"`beta` is the weight of the past in an average, between 0 and 1, not {beta}"
        raise OptimizerError(msg)
    return Schedule(lambda step: rectified(beta, step + 1), None, f"rectified_warmup({beta})")


def cosine(steps: int, *, end: float = 0.0) -> Schedule:
    r"""Fall along half a cosine: $e + \frac{1 - e}{2} (1 + \cos \frac{\pi t}{n})$ (Loshchilov & Hutter, 2017, eq. 5).

    Args:
        steps: $n$.
        end: $e$.

    Raises:
        OptimizerError: `steps` is below 1 or `end` outside [0, 1].
    """
    counted("steps", steps)
    share("end", end)
    return Schedule(
        lambda step: end + (1.0 - end) * (1.0 + math.cos(math.pi * step / steps)) / 2.0,
        steps,
        f"cosine({steps}, end={end})",
    )


def polynomial(steps: int, *, power: float = 1.0, end: float = 0.0) -> Schedule:
    r"""Fall like a power: $e + (1 - e) (1 - t/n)^p$; linearly with `power=1`.

    Args:
        steps: $n$.
        power: $p$.
        end: $e$.

    Raises:
        OptimizerError: `steps` is below 1, `power` not positive or `end` outside [0, 1].
    """
    counted("steps", steps)
    positive("power", power)
    share("end", end)
    return Schedule(
        lambda step: end + (1.0 - end) * (1.0 - step / steps) ** power,
        steps,
        f"polynomial({steps}, power={power}, end={end})",
    )


def step_decay(every: int, *, factor: float = 0.1) -> Schedule:
    r"""Fall by a factor every so many steps: $\gamma^{\lfloor t / n \rfloor}$.

    Args:
        every: $n$.
        factor: $\gamma$.

    Raises:
        OptimizerError: `every` is below 1 or `factor` not positive.
    """
    counted("every", every)
    positive("factor", factor)
    return Schedule(lambda step: factor ** (step // every), None, f"step_decay({every}, factor={factor})")


def exponential(factor: float) -> Schedule:
    r"""Fall by the same factor at every step: $\gamma^t$.

    Args:
        factor: $\gamma$.

    Raises:
        OptimizerError: It is not positive.
    """
    positive("factor", factor)
    return Schedule(lambda step: factor**step, None, f"exponential({factor})")


def inverse_sqrt(steps: int) -> Schedule:
    r"""Fall like $\sqrt{n / (n + t)}$ (Vaswani et al., 2017, equation 3, after its warm-up of $n$ steps).

    Adagrad's own decay; `warmup(n).then(inverse_sqrt(n))` is the Transformer's schedule.

    Args:
        steps: $n$.

    Raises:
        OptimizerError: It is below 1.
    """
    counted("steps", steps)
    return Schedule(lambda step: math.sqrt(steps / (steps + step)), None, f"inverse_sqrt({steps})")


def warmup_stable_decay(warm: int, stable: int, decay: int, *, end: float = 0.0) -> Schedule:
    """Rise, stay, fall linearly (Hu et al., 2024, MiniCPM, section 4.2).

    Raises:
        OptimizerError: A number of steps is below 1 or `end` outside [0, 1].
    """
    whole = warmup(warm).then(constant().steps(stable)).then(polynomial(decay, end=end))
    return replace(whole, name=f"warmup_stable_decay({warm}, {stable}, {decay}, end={end})")


def one_cycle(steps: int, *, rise: float = 0.3, start: float = 0.04, end: float = 0.0) -> Schedule:
    """Rise along half a cosine and fall along another (Smith & Topin, 2019), the momentum left as it is.

    Args:
        steps: Of both.
        rise: Share of the steps that rise.
        start: Share of the rate at first.
        end: Share of it at last.

    Raises:
        OptimizerError: A part has no step, or a share is outside [0, 1].
    """
    up = counted("steps * rise", round(steps * share("rise", rise)))
    down = counted("steps * (1 - rise)", steps - up)
    mirrored = cosine(up, end=start)
    whole = Schedule(lambda step: mirrored(up - step), up, "").then(cosine(down, end=end))
    return replace(whole, name=f"one_cycle({steps}, rise={rise}, start={start}, end={end})")


def restarts(first: int, count: int, *, growth: float = 2.0, end: float = 0.0) -> Schedule:
    """Fall along half a cosine, again and again, each longer (Loshchilov & Hutter, 2017, SGDR, section 3).

    Args:
        first: Steps of the first.
        count: How many.
        growth: How much longer each is than the one before.
        end: Share of the rate at the end of each.

    Raises:
        OptimizerError: A number of steps is below 1, `growth` not positive or `end` outside [0, 1].
    """
    counted("first", first)
    counted("count", count)
    positive("growth", growth)
    whole = cosine(first, end=end)
    for cycle in range(1, count):
        whole = whole.then(cosine(round(first * growth**cycle), end=end))
    return replace(whole, name=f"restarts({first}, {count}, growth={growth}, end={end})")


def scaled(lr: float, *, batch: int, reference: int) -> float:
    r"""Scale a rate linearly with the batch: $\eta \frac{B}{B_0}$ (Goyal et al., 2017, section 2.1).

    It holds for gradient descent with or without momentum, after a warm-up, up to where noise no longer dominates.

    Args:
        lr: $\eta$, found with the batch size `reference`.
        batch: $B$.
        reference: $B_0$.

    Raises:
        OptimizerError: A batch size is below 1, or `lr` is not positive.
    """
    return positive("lr", lr) * counted("batch", batch) / counted("reference", reference)


def scaled_by_root(lr: float, *, batch: int, reference: int) -> float:
    r"""Scale a rate with the root of the batch: $\eta \sqrt{B / B_0}$, for rules that divide by a scale.

    Where noise dominates, $\sigma$ is that of the noise, which sinks like $1 / \sqrt B$ and makes the steps longer by
    itself (Krizhevsky, 2014; You et al., 2020; Malladi et al., 2022, who have $1 - \beta$ grow like $B$, too).

    Args:
        lr: $\eta$, found with the batch size `reference`.
        batch: $B$.
        reference: $B_0$.

    Raises:
        OptimizerError: A batch size is below 1, or `lr` is not positive.
    """
    return positive("lr", lr) * math.sqrt(counted("batch", batch) / counted("reference", reference))
