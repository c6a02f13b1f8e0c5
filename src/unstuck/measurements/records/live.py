"""What a run shows while it goes on, with no access to its data: from its record, and from a look at a live graph."""

from dataclasses import dataclass

from unstuck.estimate import Estimate

# What a doubling of the steps must gain, of the level, to be seen to fall: power laws of large networks gain 3 to 5 %
# (exponents of 0.05 to 0.08; Kaplan et al., 2020), so that a run that gains about half of it is none of them.
LEAST_OF_LEVEL = 0.02

# Errors that bound such a gain, chosen as the surest over three windows: two errors, divided among them.
PACE_ERRORS = 2.43


@dataclass(frozen=True)
class Along:
    """The loss along one direction p, found on one batch and judged on the next few: g.p and p.Hp, over batches.

    Attributes:
        slope: g.p: negative where p leads down.
        curvature: p.Hp.
    """

    slope: Estimate
    curvature: Estimate


@dataclass(frozen=True)
class Glimpse:
    """What the graph of one live loss shows by itself, without second derivatives; see `Look`."""

    flat: tuple[tuple[str, float], ...] = ()
    flat_outputs: tuple[tuple[str, float], ...] = ()
    unrolled: tuple[tuple[str, int, tuple[float, ...]], ...] = ()
    beyond: str = ""


@dataclass(frozen=True)
class Look:
    r"""A look at the graph of the live loss, before its backward pass frees it.

    The extreme eigenvalues are Ritz values of one batch's Hessian, in the space that few products span from its
    gradient and from a random vector; what is said of directions is said by other batches than the one they were
    found on.

    Attributes:
        step: The optimizer's step it was made at.
        loss: Of that batch.
        gradient_norm: Of that batch.
        lambda_min: Lowest Ritz value; its error is the residual, within which an eigenvalue lies.
        lambda_max: Highest.
        top_share: Share of the squared gradient in the five directions of largest absolute curvature.
        size: Number of parameters.
        update: Along the step that the optimizer then made, from where it led to.
        descent: What the step gains on the batch it was found on, to first order, -g.d.
        krylov: Along the damped Newton step in the space.
        lowest: Along the lowest Ritz vector, of length 1; None where it is not negative.
        step_length: Length of the step that the optimizer made.
        weight_norm: Length of the parameters.
        asymmetry: Of the products; 0 where autograd's second derivatives are right.
        judges: Number of batches that judged.
        gradients: What it cost, in evaluations of the gradient.
        seconds: What it cost.
        momentum: Share of a step that later steps repeat.
        shifted: Whether something other than a step moved the weights meanwhile, half as far or more.
        flat: Layers before a tanh or a sigmoid that is followed by weights, and what share of its values has a slope
            below a hundredth of the largest.
        flat_outputs: The same of a tanh or a sigmoid that the loss takes as it is.
        unrolled: Layers that are applied many times, one after the other, as recurrent cells: name, times, and the
            largest gradient at their results in each quarter, first to last.
        beyond: How far targets lie beyond what outputs can be, in a sentence; empty if they do not.
    """

    step: int
    loss: float
    gradient_norm: float
    lambda_min: Estimate
    lambda_max: Estimate
    top_share: float
    size: int
    update: Along | None
    descent: float | None
    krylov: Along | None
    lowest: Along | None
    step_length: float | None
    weight_norm: float
    asymmetry: float
    judges: int
    gradients: float
    seconds: float
    momentum: float = 0.0
    shifted: bool = False
    flat: tuple[tuple[str, float], ...] = ()
    flat_outputs: tuple[tuple[str, float], ...] = ()
    unrolled: tuple[tuple[str, int, tuple[float, ...]], ...] = ()
    beyond: str = ""


@dataclass(frozen=True)
class Recent:
    r"""What the record says of the steps since the loss stands still.

    Attributes:
        since: The step since when.
        until: The last step.
        level: Mean loss since then.
        began: The loss of the first step.
        lowest: The lowest loss of all.
        scale: What a decrease of the loss is compared with: its level, or what it has fallen so far.
        signal: Mean of $|G|^2$ over the samples.
        noise: Mean of $\mathrm{tr}\,\Sigma / B$.
        gradient_cosine: Median cosine between successive gradients.
        gradient_norm: Median length of the gradient.
        clipped: Whether the gradient has the very same length again and again.
        step_share: Median length of an update over that of the weights.
        first_share: The same of the first update that was sampled.
        grown: Length of the weights where the loss began to stand still over that at the first sample.
        driven: Names of the layers of whose weights the steps, and not the initialisation, surely have made most.
        reach: Median of what a way as long as the weights promises, length of the gradient times that of the weights,
            and no more than at the last sample; of a gradient that is in balance with weight decay, of what is left.
        descent: Median of what a step promises on its own batch, to first order: -g.d.
        promise: Mean of that.
        ahead: What all further steps promise together, where what one of them promises surely shrinks by the same
            share again and again.
        falls: What the loss falls while the number of steps doubles, as a share of it, where that was asked; over as
            much of the run as bounds it best.
        falls_lately: The same over the last half of the run alone.
        momentum: Share of a step that later steps repeat, where that was asked.
        sigma_ratio: Median root mean square of the second moment over that of the gradients.
        unchanged: Median share of the parameters that a step leaves as they are.
        overshoot: Mean slope along a step where it ends, uphill, over that where it began, downhill; see `Sample`.
        lately: The same over the last half of them, and what before promised as much: where gradients shrink, all
            together show what was at first.
        silent: Names of the layers to which no gradient comes at all, though it comes to a later one.
        zeros: Names of the layers whose weights and gradients are all exactly zero.
        narrow: Whether parameters are kept in a type narrower than float32.
        samples: How many there are.
        unreached: Parameters that should train and get no gradient, by name.
        unlisted: Parameters that require a gradient and are in no optimizer, by name.
        stepped: Parameters that should train and lie behind step functions, so that their gradient is zero, by name.
        ends: Names of these functions.
        unregistered: Lists of layers that no module knows of, by name, where some are in no optimizer.
        left_out: Share of the trainable parameters that these are.
        depths: Length of the gradient of each layer over that of its weights, in the model's order.
        first_depths: The same at the first sample.
        rate: Present learning rate, if there is one.
        first_rate: The highest that it was.
        shifted: Share of the samples in which something other than a step moved the weights, half as far or more.
        twice: What is normalised twice on its way to the loss, in a sentence; empty if nothing is.
        crossed: Which outputs are compared with the targets of all examples, in a sentence; empty if none are.
        alone: What is normalised over a single class, in a sentence; empty if nothing is.
        erased: Whether gradients are set to zero between the backward pass and the step.
        remade: Whether the first step that was sampled changed every layer by a tenth of its length and more, and the
            weights had not begun at zero.
        piled: Whether they are added to those of the step before, again and again.
        glimpse: What the graph of the loss showed by itself, where there was no time for a look.
        not_finite: The first step at which loss or gradient were NaN or Inf.
        broken: What was: "loss", "gradient" or "parameters".
    """

    since: int
    until: int
    level: float
    scale: float
    began: float | None = None
    lowest: float | None = None
    signal: Estimate | None = None
    noise: Estimate | None = None
    gradient_cosine: float | None = None
    gradient_norm: float | None = None
    clipped: bool = False
    step_share: float | None = None
    first_share: float | None = None
    grown: float | None = None
    driven: tuple[str, ...] = ()
    reach: float | None = None
    descent: float | None = None
    promise: Estimate | None = None
    ahead: float | None = None
    falls: Estimate | None = None
    falls_lately: Estimate | None = None
    momentum: float | None = None
    sigma_ratio: float | None = None
    unchanged: float | None = None
    overshoot: Estimate | None = None
    lately: Estimate | None = None
    silent: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    narrow: bool = False
    samples: int = 0
    unreached: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    stepped: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    left_out: float = 0.0
    depths: tuple[tuple[str, float], ...] = ()
    first_depths: tuple[tuple[str, float], ...] = ()
    rate: float | None = None
    first_rate: float | None = None
    shifted: float = 0.0
    twice: str = ""
    crossed: str = ""
    alone: str = ""
    erased: bool = False
    piled: bool = False
    remade: bool = False
    glimpse: Glimpse = Glimpse()
    not_finite: int | None = None
    broken: str | None = None
