r"""The methods by their names, each a chain of parts, with the defaults of `torch.optim`.

| here | $m$ | $\sigma$ | otherwise than |
|---|---|---|---|
| `gradient_descent` | $g$ | 1 | |
| `momentum`, `nesterov` | heavy ball | 1 | where $\eta$ is inside, $m_t = \mu m_{t-1} - \eta_t g_t$ |
| `adagrad` | $g$ | root of the sum | `adagrad_mean`: by $\sqrt t$, which makes a decaying rate of it |
| `adagrad_mean` | $g$ | root of the mean | PyTorch, which has the sum |
| `rmsprop` | $g$, or heavy ball of $g/\sigma$ | root of an average from 0 | `rmsprop_from_first`: at first $10\eta$ |
| `rmsprop_from_first` | $g$ | root of an average from $\lvert g_1 \rvert$ | PyTorch: the first step is $\eta$ |
| `adam`, `adamw` | average, debiased | root of an average, debiased | `rmsprop`, which is biased |
| `amsgrad` | average, debiased | largest such root | the paper, which has no debiasing |
| `nadam` | average, looked ahead | root of an average, debiased | |
| `radam` | average, debiased | debiased root, once it is known | adam: only in the first steps |
| `lars` | heavy ball of layer-wise steps | 1 | |
| `lamb` | average, debiased | debiased root, then a trust ratio per layer | |
"""

from unstuck.optim.decay import DecoupledWeightDecay, WeightDecay
from unstuck.optim.momenta import HeavyBall, MovingAverage, Nesterov, NesterovAverage
from unstuck.optim.rectified import RectifiedAverage
from unstuck.optim.rule import Part, Rule, chain
from unstuck.optim.scales import (
    AverageFromFirst,
    AverageOfSquares,
    CentredAverageOfSquares,
    MaximumOfAverages,
    MeanOfSquares,
    SumOfSquares,
)
from unstuck.optim.trust import LayerwiseRate, TrustRatio


def _decaying(weight_decay: float, *parts: Part) -> Rule:
    """Let a coupled weight decay come first, where there is any."""
    return chain(*(() if weight_decay == 0.0 else (WeightDecay(weight_decay),)), *parts)


def gradient_descent(*, weight_decay: float = 0.0) -> Rule:
    r"""Gradient descent, $\theta \leftarrow \theta - \eta g$: `torch.optim.SGD(lr=1e-3)`.

    Args:
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay)


def momentum(decay: float = 0.9, *, dampening: float = 0.0, weight_decay: float = 0.0) -> Rule:
    r"""Gradient descent with the heavy ball's momentum (Polyak, 1964): `torch.optim.SGD(momentum=0.9)`.

    $m \leftarrow \mu m + (1 - \tau) g$, $\theta \leftarrow \theta - \eta m$.

    Args:
        decay: $\mu$.
        dampening: $\tau$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, HeavyBall(decay, dampening=dampening))


def nesterov(decay: float = 0.9, *, weight_decay: float = 0.0) -> Rule:
    r"""Nesterov's momentum (Sutskever et al., 2013): `torch.optim.SGD(momentum=0.9, nesterov=True)`.

    $m \leftarrow \mu m + g$, $\theta \leftarrow \theta - \eta (g + \mu m)$.

    Args:
        decay: $\mu$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, Nesterov(decay))


def adagrad(*, eps: float = 1e-10, initial: float = 0.0, weight_decay: float = 0.0) -> Rule:
    r"""Adagrad with the sum of squares (Duchi et al., 2011): `torch.optim.Adagrad(lr=1e-2)`.

    $\theta \leftarrow \theta - \eta g_t / (\sqrt{v_0 + \sum_{s \le t} g_s^2} + \epsilon)$.

    Args:
        eps: $\epsilon$.
        initial: $v_0$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, SumOfSquares(eps=eps, initial=initial))


def adagrad_mean(*, weight_decay: float = 0.0) -> Rule:
    r"""Adagrad with the mean of squares: $\theta \leftarrow \theta - \eta g_t / \sqrt{\frac1t \sum_{s \le t} g_s^2}$.

    With the rate $\eta / \sqrt t$ it is `adagrad`; with a constant one it can burst where gradients sink.

    Args:
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, MeanOfSquares())


def rmsprop(
    beta: float = 0.99,
    *,
    eps: float = 1e-8,
    centred: bool = False,
    decay: float = 0.0,
    weight_decay: float = 0.0,
) -> Rule:
    r"""RMSProp (Tieleman & Hinton, 2012, lecture 6.5): `torch.optim.RMSprop(lr=1e-2)`.

    $v \leftarrow \beta v + (1 - \beta) g^2$ from 0, $\theta \leftarrow \theta - \eta g / (\sqrt v + \epsilon)$: the
    first step is $\eta / \sqrt{1 - \beta}$, ten times those that follow. Momentum is of what has been divided.

    Args:
        beta: $\beta$: `alpha` in PyTorch.
        eps: $\epsilon$.
        centred: Whether $\sigma$ is the root of a variance (Graves, 2013).
        decay: $\mu$ of the heavy ball after the division: `momentum` in PyTorch.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    scale = (
        CentredAverageOfSquares(beta, eps=eps) if centred else AverageOfSquares(beta, eps=eps, debias=False)
    )
    return _decaying(weight_decay, scale, *(() if decay == 0.0 else (HeavyBall(decay),)))


def rmsprop_from_first(beta: float = 0.99, *, weight_decay: float = 0.0) -> Rule:
    r"""RMSProp with the average begun at the first gradient, $\sigma_1 = |g_1|$.

    $\sigma_t = \sqrt{\beta \sigma_{t-1}^2 + (1 - \beta) g_t^2}$, $\theta \leftarrow \theta - \eta g_t / \sigma_t$.

    Args:
        beta: $\beta$, often written $\alpha$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, AverageFromFirst(beta))


def adam(beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8, weight_decay: float = 0.0) -> Rule:
    r"""Adam (Kingma & Ba, 2015, algorithm 1): `torch.optim.Adam(lr=1e-3)`.

    $\theta \leftarrow \theta - \eta \hat m / (\sqrt{\hat v} + \epsilon)$ with both averages corrected for their bias.

    Args:
        beta1: $\beta_1$ of the momentum.
        beta2: $\beta_2$ of the scale.
        eps: $\epsilon$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, MovingAverage(beta1), AverageOfSquares(beta2, eps=eps))


def adamw(beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8, weight_decay: float = 1e-2) -> Rule:
    r"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019): `torch.optim.AdamW(lr=1e-3)`.

    Args:
        beta1: $\beta_1$ of the momentum.
        beta2: $\beta_2$ of the scale.
        eps: $\epsilon$.
        weight_decay: $\lambda$ of $\theta \leftarrow (1 - \eta\lambda)\theta$.
    """
    return chain(adam(beta1, beta2, eps=eps), DecoupledWeightDecay(weight_decay))


def nadam(
    beta1: float = 0.9,
    beta2: float = 0.999,
    *,
    eps: float = 1e-8,
    warming: float = 4e-3,
    weight_decay: float = 0.0,
) -> Rule:
    r"""Adam with Nesterov's momentum (Dozat, 2016): `torch.optim.NAdam(lr=2e-3)`.

    Args:
        beta1: $\beta_1$ of the momentum.
        beta2: $\beta_2$ of the scale.
        eps: $\epsilon$.
        warming: $\psi$ of the momentum: `momentum_decay` in PyTorch.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    scale = AverageOfSquares(beta2, eps=eps, debias_first=True)
    return _decaying(weight_decay, NesterovAverage(beta1, warming=warming), scale)


def radam(beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8, weight_decay: float = 0.0) -> Rule:
    r"""Rectified Adam (Liu et al., 2020, algorithm 2): `torch.optim.RAdam(lr=1e-3)`.

    Args:
        beta1: $\beta_1$ of the momentum.
        beta2: $\beta_2$ of the scale.
        eps: $\epsilon$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, MovingAverage(beta1), RectifiedAverage(beta2, eps=eps))


def amsgrad(
    beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8, weight_decay: float = 0.0
) -> Rule:
    r"""AMSGrad (Reddi et al., 2018, algorithm 2): `torch.optim.Adam(amsgrad=True)`.

    Args:
        beta1: $\beta_1$ of the momentum.
        beta2: $\beta_2$ of the scale.
        eps: $\epsilon$.
        weight_decay: $\lambda$ of $g \leftarrow g + \lambda\theta$.
    """
    return _decaying(weight_decay, MovingAverage(beta1), MaximumOfAverages(beta2, eps=eps))


def lars(decay: float = 0.9, *, coefficient: float = 0.001, weight_decay: float = 5e-4) -> Rule:
    r"""Layer-wise adaptive rate scaling for large batches (You, Gitman & Ginsburg, 2017, algorithm 1).

    $m \leftarrow \mu m + \kappa \frac{\|\theta\|}{\|g\| + \lambda \|\theta\|} (g + \lambda\theta)$,
    $\theta \leftarrow \theta - \eta m$ per parameter tensor; the paper has $\eta$ inside $m$: the same while $\eta$
    stays. Biases and norms are usually left out: give them a group with `rule` `momentum()`.

    Args:
        decay: $\mu$.
        coefficient: $\kappa$.
        weight_decay: $\lambda$; the paper's for ImageNet.
    """
    return chain(LayerwiseRate(coefficient, weight_decay=weight_decay), HeavyBall(decay))


def lamb(beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-6, weight_decay: float = 0.01) -> Rule:
    r"""Layer-wise adaptive moments for large batches (You et al., 2020, algorithm 2).

    $r = \hat m / (\sqrt{\hat v} + \epsilon)$, $\theta \leftarrow \theta - \eta \frac{\|\theta\|}{\|r +
    \lambda\theta\|} (r + \lambda\theta)$ per parameter tensor. Defaults are the paper's for BERT (section 4).

    Args:
        beta1: $\beta_1$ of the momentum.
        beta2: $\beta_2$ of the scale.
        eps: $\epsilon$.
        weight_decay: $\lambda$.
    """
    return chain(adam(beta1, beta2, eps=eps), WeightDecay(weight_decay), TrustRatio())
