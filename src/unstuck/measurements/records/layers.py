"""What was measured layer by layer: which units let a gradient through, and how it fares with depth and time."""

import math
from dataclasses import dataclass

# Where more of its units than this are copies, a layer is a much narrower one.
_MOST = 0.5


@dataclass(frozen=True)
class Activation:
    """One nonlinearity, over every example seen.

    A slope is the derivative of the nonlinearity as a share of the largest it can have; it is *flat* where
    that share is below one percent.

    Attributes:
        name: Of the module whose weights made the input, or "input".
        op: The operation, e.g. "relu".
        kind: "rectifier" (flat below, and perhaps above), "bounded" (flat at both ends) or "leaky" (flat nowhere).
        units: How many: channels after a convolution, else the last dimension.
        seen: Values seen of each unit (examples, times positions or time steps).
        dead: Share of the units that are flat below on every example: they say nothing, and learn nothing.
        saturated: Share of the units that are flat on nearly every example, without being dead.
        flat: Share of all values that are flat.
        slope: Mean slope.
        silent: Share of the examples on which all units are flat.
        passed: Root mean square of the gradient leaving at the input over that arriving at the output, as a
            share of the largest slope; None where no gradient arrives.
        back: Share of the squared gradient that arrives at flat values and would pull them off.
        leverage: Sum over the flat values of |gradient times input| over the loss: what a relative change of
            these inputs does to it. None where no gradient arrives, or the loss is 0.
        output: No weights come after it.
        gate: It multiplies other activations, as in an LSTM: to be flat is its way to be open or shut.
    """

    name: str
    op: str
    kind: str
    units: int
    seen: int
    dead: float
    saturated: float
    flat: float
    slope: float
    silent: float
    passed: float | None = None
    back: float | None = None
    leverage: float | None = None
    output: bool = False
    gate: bool = False


@dataclass(frozen=True)
class Depth:
    """The gradient where a weight's product comes out.

    Attributes:
        name: Of the module that holds the weight.
        depth: How many weights lie before it on the longest way from the input, itself included.
        calls: How often it is used.
        gradient: Length of one example's gradient there: root mean square over the examples.
        steps: The same for each use in turn where each depends on the one before, as in recurrent networks;
            at most some sixty of them, evenly chosen, first and last among them. Else empty.
    """

    name: str
    depth: int
    calls: int
    gradient: float
    steps: tuple[float, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """What arrives at a layer from an earlier one, over every example seen.

    Not asked of a layer whose own weights are all zero: no gradient comes to what silences its inputs then.

    Attributes:
        name: Of the module whose weights it is multiplied with.
        source: Of the module whose weights it was made with.
        features: How many: channels before a convolution, else the last dimension.
        silent: Share of the features that are 0 on every example, of such a share of them as came out of `source`
            otherwise.
    """

    name: str
    source: str
    features: int
    silent: float


@dataclass(frozen=True)
class ParameterScale:
    """Root mean squares of one parameter tensor and of its gradient.

    Attributes:
        name: Of the parameter.
        weight: Of the parameter.
        gradient: Of the gradient of the mean loss over the examples seen.
        copies: Share of the units (rows, of a matrix or a convolution) that have the same weights and the same
            gradient, not zero, as another: no step along gradients tells them apart, ever. All, where the whole
            tensor and its gradient are zero, as of two factors that wait for each other.
    """

    name: str
    weight: float
    gradient: float
    copies: float = 0.0

    @property
    def relative(self) -> float | None:
        """The gradient in units of the weight; None for a weight of zero."""
        return self.gradient / self.weight if self.weight > 0.0 else None


@dataclass(frozen=True)
class Layers:
    """Activations and gradients, layer by layer.

    Attributes:
        examples: How many examples were seen.
        activations: In the order of execution.
        depths: In the order of execution.
        parameters: In the order of the model.
        loss: Mean over the examples seen.
        blind: The loss when every example gets the mean output, or the median one if that is lower: what can be had
            without looking at the inputs. None where it cannot be said.
        inputs: Of layers behind other layers, in the order of execution.
        whole: The examples are all there are, so that what is silent on them is silent.
    """

    examples: int
    activations: tuple[Activation, ...]
    depths: tuple[Depth, ...]
    parameters: tuple[ParameterScale, ...]
    loss: float
    blind: float | None = None
    inputs: tuple[Inputs, ...] = ()
    whole: bool = False

    @property
    def alike(self) -> tuple[ParameterScale, ...]:
        """The parameters of which most units are copies of each other; at zero, two that wait for each other."""
        copied = [parameter for parameter in self.parameters if parameter.copies > _MOST]
        at_zero = [parameter for parameter in copied if parameter.weight == parameter.gradient == 0.0]
        return tuple(each for each in copied if each not in at_zero or len(at_zero) > 1)

    @property
    def learned(self) -> float | None:
        """Which share of the blind loss the model has learnt to avoid by looking at its inputs."""
        if self.blind is None or self.blind <= 0.0 or self.loss < 0.0:
            return None
        share = 1.0 - self.loss / self.blind
        return share if math.isfinite(share) else None  # it overflows where the blind loss is all but nothing
