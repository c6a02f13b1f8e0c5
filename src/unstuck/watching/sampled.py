"""What a few successive steps show: lengths, angles, noise."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """One group of parameters, or one layer: lengths of gradient, weights and update."""

    gradient_norm: float
    weight_norm: float
    update_norm: float


@dataclass(frozen=True)
class Sample:
    r"""What three successive steps k-1, k and k+1 show; None is what could not be known.

    With $g$ the gradient that a step is made from, as it is after clipping, $\theta$ the parameters and $d$ what the
    step adds to them:

    Attributes:
        gradient_norm: $\|g_k\|$.
        weight_norm: $\|\theta\|$ before the step.
        update_norm: $\|d_k\|$.
        gradient_cosine: Of the angle between $g_{k-1}$ and $g_k$.
        descent_cosine: Of the angle between $-g_k$ and $d_k$.
        signal: $|G|^2$, the squared length of the expected gradient, without bias: $g_{k-1} \cdot g_k$, or from the
            micro-batches of one accumulated step (McCandlish et al., 2018, appendix A).
        noise: $\mathrm{tr}\,\Sigma / B$, the variance of a step's gradient: $|g_k - g_{k-1}|^2 / 2$, or from the
            micro-batches. Divided by the signal, after averaging both, it is the noise scale in batches.
        sigma: Root mean of the optimizer's running mean of squares.
        sigma_ratio: That over the root mean square of what the optimizer squares: $g_k$ and its coupled weight decay.
        unchanged: Share of the parameters with a gradient that the step leaves as they are.
        overshoot: $-g_{k+1} \cdot d_k / g_k \cdot d_k$, the slope along the step where it ends over that where it
            began, with the sign turned: -1 where the loss is a straight line, 0 where the step ends at the bottom,
            1 where it ends as high on the other side. The noise of $g_{k+1}$ does not know the step and averages out.
        piled: Whether $g_k$ was added to $g_{k-1}$, which nobody had set to zero. What compares successive gradients
            is None then.
        outside: How far the parameters were moved between step k-1 and step k, by something other than the steps.
        numb: Whether nothing but zeros came to one of the parameters.
        unbalanced: $\|g_k + \lambda \theta\| / \|g_k\|$, what coupled weight decay leaves of the gradient: 0
            where the two are in balance, and the optimizer rests; 1 without any.
    """

    gradient_norm: float
    weight_norm: float
    update_norm: float
    gradient_cosine: float | None
    descent_cosine: float | None
    signal: float | None
    noise: float | None
    sigma: float | None
    sigma_ratio: float | None
    unchanged: float | None
    overshoot: float | None
    layers: dict[str, Group]
    groups: tuple[Group, ...]
    piled: bool = False
    outside: float = 0.0
    numb: bool = False
    unbalanced: float = 1.0
