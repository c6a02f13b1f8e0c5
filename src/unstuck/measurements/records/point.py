"""What was measured at the point where the run is."""

from dataclasses import dataclass

from unstuck.curvature.records import Spectrum
from unstuck.estimate import Estimate
from unstuck.measurements.records.continuations import Continuations
from unstuck.measurements.records.labels import Labels
from unstuck.measurements.records.layers import Layers, ParameterScale
from unstuck.measurements.records.mixing import Mixing
from unstuck.measurements.records.order import Order
from unstuck.measurements.records.outputs import Outputs
from unstuck.measurements.records.past import Past
from unstuck.measurements.records.sight import Sight
from unstuck.measurements.records.stability import Stability
from unstuck.measurements.records.updates import (
    Forgetting,
    Momentum,
    NonFinite,
    Precision,
    SecondMoment,
    Wiring,
)
from unstuck.measurements.records.validation import Validation


@dataclass(frozen=True)
class Subject:
    """What was looked at.

    Attributes:
        model: Class name of the model.
        parameters: Trainable parameters that were looked at, tied ones counted once.
        frozen: Parameters that do not require a gradient.
        dtype: Of the trainable parameters, e.g. "float32"; several are joined by "+".
        device: Where the parameters are.
        optimizer: Class name, or None when the training has no optimizer.
        rate: Present learning rate (of the first group), or None.
        decay: Whether weight decay counts as part of the loss here.
        mode: "train" or "eval", as handed in.
        only: Patterns of the parameters that were looked at, the others held fixed; none: all were.
        trainable: Trainable parameters in all, where only some were looked at.
        clip: The norm to which longer gradients are shortened, or None.
        hooked: Parameter tensors with gradient hooks of the user's, which are not called here.
        pull: What weight decay adds to every curvature, at least: its smallest coefficient, where it is coupled.
        shrink: The largest share of a weight that decay takes at each step, where that is known.
    """

    model: str
    parameters: int
    frozen: int
    dtype: str
    device: str
    optimizer: str | None
    rate: float | None
    decay: bool
    mode: str
    only: tuple[str, ...] = ()
    trainable: int | None = None
    clip: float | None = None
    hooked: int = 0
    pull: float = 0.0
    shrink: float = 0.0


@dataclass(frozen=True)
class Sample:
    """The data that the verdict rests on.

    Attributes:
        examples: Number of examples in the sample, each as often as it is in there.
        batches: Number of batches they came in.
        exhaustive: The sample is all the data there is and the loss is not random (no dropout):
            nothing is left to sampling error.
        stochastic: The loss itself is random (dropout and the like), here replayed with fixed seeds.
        whole: The sample is all the data there is.
        draws: How many times each batch is in it, where the loss is random and the data are few.
    """

    examples: int
    batches: int
    exhaustive: bool
    stochastic: bool
    whole: bool = False
    draws: int = 1


@dataclass(frozen=True)
class Division:
    """How the training is divided over several processes.

    Attributes:
        processes: How many there are.
        examples: Of the sample, in each of them.
        same_data: All of them begin with the same batch: the data are not divided.
        parameters: Of the model, in each of them; None: all of them in every one.
    """

    processes: int
    examples: tuple[int, ...]
    same_data: bool
    parameters: tuple[int, ...] | None


@dataclass(frozen=True)
class Route:
    """One way down, found on one half of the sample and judged on the other.

    Attributes:
        name: "now" (the optimizer's own next step on a batch), "full" (the same on the whole gradient),
            "ahead" (its next `steps` steps), "gradient" (line search along -g),
            "krylov" (best point in the Krylov space of g), "curvature" (along the lowest eigenvector, both
            signs), "escape" (the same, then a short descent from there), "shake" (a small random displacement,
            then that descent), "control" (that descent alone).
        gain: Decrease of the loss at the best point, in units of the loss; negative if it rises.
        slope: The part of the gain that the gradient itself accounts for, -g.p at the best point p,
            at most the gain: what is left of it comes from negative curvature.
        distance: Length of the step to the best point.
        multiple: That step as a multiple of the one the optimizer takes now, where that makes sense.
        distances: Distances at which the real loss was looked at, ascending, 0 first.
        losses: The real loss there, on the half that judges.
        steps: How many steps of the optimizer it took.
        found: Decrease of the loss on the half that it was found on; None where that judges, too.
    """

    name: str
    gain: Estimate
    slope: float
    distance: float
    multiple: float | None = None
    distances: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    steps: int = 1
    found: float | None = None


@dataclass(frozen=True)
class Slice:
    """The real loss along an eigenvector through the point, against its quadratic model.

    Attributes:
        name: "lowest" or "highest": which end of the spectrum the eigenvector belongs to.
        eigenvalue: Rayleigh quotient of the direction on the half that judges, with its error.
        distances: Along the unit eigenvector, ascending, both signs, 0 among them.
        losses: The real loss at those distances, on the half that judges.
        model: loss + distance * slope + distance^2 / 2 * eigenvalue there.
    """

    name: str
    eigenvalue: Estimate
    distances: tuple[float, ...]
    losses: tuple[float, ...]
    model: tuple[float, ...]


@dataclass(frozen=True)
class Gradient:
    """The gradient at the point.

    Attributes:
        norm: Euclidean norm over the whole sample.
        stable: The step, as a multiple of the present one, beyond which the run is thrown out along the steepest
            direction: (2 / lambda_max) ||g|| / ||present step|| where the optimizer's step points along -g. None
            for others, as adaptive ones, which have another metric.
        steepest: Largest curvature met in the Krylov space of g, a lower bound of lambda_max; None if not looked at.
        lowest: Lowest curvature met there, an upper bound of lambda_min.
        rounding: Norm that rounding alone would leave; a smaller `norm` says nothing.
        noise: Norm of its standard error over batches; infinite when there is one batch only, 0 when
            the sample is exhaustive.
        flatness: ||Hg|| / (||H|| ||g||): near 0 the gradient lies in the kernel of the Hessian
            (gradient-flat, Frye et al. 2021). None when `norm` is no more than rounding.
    """

    norm: float
    rounding: float
    noise: float
    flatness: float | None
    stable: float | None = None
    steepest: float | None = None
    lowest: float | None = None


@dataclass(frozen=True)
class Noise:
    """The noise of batch gradients.

    Attributes:
        batch: Examples in a batch, on average.
        batches: How many batches it rests on.
        simple: tr(Sigma) / |G|^2 in examples, the batch size at which noise and signal are equal (McCandlish et
            al., 2018, section 2.2), with its error; None where |G|^2 is not surely above zero.
        variance: tr(Sigma), the variance of the gradient of one example.
        signal: |G|^2, without bias; exact where the batches are all the data.
    """

    batch: float
    batches: int
    simple: Estimate | None
    variance: Estimate
    signal: Estimate


@dataclass(frozen=True)
class Spent:
    """What one measurement cost, without others that were made in its course.

    Attributes:
        name: Of the field in `Measurements`, of the route, or of what else was done; "other" for all the rest:
            reading data, timing, a first look at a smaller sample.
        gradients: In evaluations of the gradient over the whole sample, as in `Cost`.
        seconds: Wall time.
    """

    name: str
    gradients: float
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What it cost to find out.

    Attributes:
        gradients: In evaluations of the gradient over the whole sample (a loss counts 0.5).
        products: Hessian-vector products among them.
        seconds: Wall time.
        peak_bytes: Largest resident memory of the process while measuring.
        engine: How Hessian-vector products were made: "retained", "fresh", "differences" or a mixture, with
            "checkpointed" where blocks of the model were computed again to fit the memory.
        measurements: What each measurement cost, in the order in which they were begun, and what is left of the
            whole.
    """

    gradients: float
    products: int
    seconds: float
    peak_bytes: int
    engine: str
    measurements: tuple[Spent, ...] = ()


@dataclass(frozen=True)
class Omission:
    """A measurement that could not be made.

    Attributes:
        name: Of the field in `Measurements`.
        reason: One sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Measurements:
    """All that was measured at one point.

    Attributes:
        loss: Mean over the sample, weight decay included where `subject.decay` says so.
        scale: What a decrease is compared with: |loss|, or what lies above a floor that no outputs pass, but never
            less than a millionth of the loss that moving by the length of the parameters along the steepest
            curvature would cost.
        length: Euclidean length of the parameter vector.
        complete: False when the budget ended or Ctrl-C came before every question was answered.
        penalty: Weight decay's part of the loss.
        non_finite: Where NaN or Inf appears first; nothing else can be measured then.
        wiring: Which parameters are trained. This and the following are None where they were not measured.
        precision: What rounding leaves of the steps.
        second_moment: The scale that an adaptive optimizer divides by.
        momentum: What a heavy ball remembers of gradients past.
        forgetting: What weight decay undoes, where it is quick.
        noise: Of the batch gradients; None with fewer than three batches.
        continuations: What going on gains, as before and with other steps.
        stability: Whether the steps stay within what the steepest direction bears.
        order: The order that the data come in, and what it costs.
        validation: The loss on data that the run does not train on.
        layers: What the layers do to the gradient.
        outputs: How low the loss can go with outputs as the model is built.
        mixing: Whether outputs follow their examples within a batch.
        sight: Which part of the inputs the outputs depend on.
        labels: Whether the inputs predict the labels.
        past: What the recorded history says, if there is one.
        division: How it is divided over processes; None in one.
        omitted: What could not be measured, and why.
    """

    subject: Subject
    sample: Sample
    loss: Estimate
    scale: float
    length: float
    gradient: Gradient
    routes: tuple[Route, ...]
    spectrum: Spectrum | None
    slices: tuple[Slice, ...]
    complete: bool
    penalty: float = 0.0
    non_finite: NonFinite | None = None
    wiring: Wiring | None = None
    precision: Precision | None = None
    second_moment: SecondMoment | None = None
    momentum: Momentum | None = None
    forgetting: Forgetting | None = None
    noise: Noise | None = None
    continuations: Continuations | None = None
    stability: Stability | None = None
    order: Order | None = None
    validation: Validation | None = None
    layers: Layers | None = None
    outputs: Outputs | None = None
    mixing: Mixing | None = None
    sight: Sight | None = None
    labels: Labels | None = None
    past: Past | None = None
    division: Division | None = None
    omitted: tuple[Omission, ...] = ()

    @property
    def alike(self) -> tuple[ParameterScale, ...]:
        """The parameters of which most units are copies of each other, if the layers were looked at."""
        return self.layers.alike if self.layers else ()

    def route(self, name: str) -> Route | None:
        """The route of that name, if it was measured."""
        return next((route for route in self.routes if route.name == name), None)

    def slice(self, name: str) -> Slice | None:
        """The slice of that name, if it was measured."""
        return next((slice_ for slice_ in self.slices if slice_.name == name), None)
