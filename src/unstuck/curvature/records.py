"""What is known about the eigenvalues of a Hessian, each number with its error."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Certificate:
    """With `probability`, no eigenvalue lies beyond `bound`.

    Attributes:
        bound: Absolute, in units of the eigenvalues.
        tolerance: The same bound as a share of the largest |eigenvalue|: for the lower end,
            lambda_min >= -tolerance * max|lambda|. Never negative.
        probability: Over the random start of the Lanczos run; 1 when all eigenvalues were computed.
    """

    bound: float
    tolerance: float
    probability: float


@dataclass(frozen=True)
class Density:
    """A quadrature of the spectral density: point masses at `nodes` (ascending) whose `weights` sum to 1."""

    nodes: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Eigenvalue:
    """A Ritz value with its residual norm: a true eigenvalue lies within `residual` of `value`."""

    value: float
    residual: float


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of a symmetric operator, as far as the question asked for them.

    Attributes:
        size: Number of eigenvalues, i.e. of parameters.
        exact: All eigenvalues were computed.
        lowest: Smallest eigenvalues found, ascending; the first is lambda_min.
        highest: Largest eigenvalues found, descending; the first is lambda_max.
        floor: Lower end: no eigenvalue below `floor.bound`.
        ceiling: Upper end: no eigenvalue above `ceiling.bound`.
        density: Of all eigenvalues.
        positive: Fraction of eigenvalues above zero (the minimum ratio).
        above: Fraction above +`flat` * max|lambda|.
        below: Fraction below -`flat` * max|lambda|.
        flat: Below this share of max|lambda| an eigenvalue counts as flat.
        trace: Sum of all eigenvalues.
        noise: Relative error of one Hessian-vector product; eigenvalues smaller than
            `noise` * max|lambda| cannot be told from zero.
        products: Hessian-vector products that were spent.
    """

    size: int
    exact: bool
    lowest: tuple[Eigenvalue, ...]
    highest: tuple[Eigenvalue, ...]
    floor: Certificate
    ceiling: Certificate
    density: Density
    positive: Estimate
    above: Estimate
    below: Estimate
    flat: float
    trace: Estimate
    noise: float
    products: int

    @property
    def lambda_min(self) -> float:
        """The smallest eigenvalue found."""
        return self.lowest[0].value

    @property
    def lambda_max(self) -> float:
        """The largest eigenvalue found."""
        return self.highest[0].value

    @property
    def radius(self) -> float:
        """The largest |eigenvalue|: the Hessian's spectral norm."""
        return max(abs(self.lambda_min), abs(self.lambda_max))


@dataclass(frozen=True)
class Question:
    """What must be settled before a run may stop.

    Attributes:
        tolerance: Share of max|lambda|: does any eigenvalue lie below -`tolerance` * max|lambda|? Infinity if
            nobody asks.
        probability: With which the answer "none" must hold.
        negative_to: After a negative eigenvalue has been found, lambda_min is followed to this relative
            error, so that its eigenvector is a good way down. None to stop as soon as one is proven.
        top: How many of the largest eigenvalues. Copies of one, which a start touches as one, count once until its
            Krylov space has ended.
        top_to: Relative error of those.
        probes: Extra products for the trace.
        flat: Below this share of max|lambda| an eigenvalue counts as flat.
        max_products: Stop here in any case.
    """

    tolerance: float = 1e-3
    probability: float = 0.99
    negative_to: float | None = 0.1
    top: int = 1
    top_to: float = 0.01
    probes: int = 0
    flat: float = 1e-3
    max_products: int = 500


@dataclass(frozen=True)
class Progress:
    """What a run knows at a moment.

    Attributes:
        products: Spent so far.
        lambda_min: Smallest eigenvalue found so far.
        lambda_max: Largest eigenvalue found so far.
    """

    products: int
    lambda_min: float
    lambda_max: float


@dataclass(frozen=True)
class Curvature:
    """A spectrum with the directions that belong to its two ends.

    Attributes:
        spectrum: Eigenvalues, each with its error.
        lowest: Unit vector of lambda_min (this process's shard of it).
        highest: Unit vector of lambda_max.
        settled: Everything that was asked is answered.
        interrupted: Ctrl-C ended the run; what was known then is here, and the caller should stop too.
    """

    spectrum: Spectrum
    lowest: Float[Tensor, " n"]
    highest: Float[Tensor, " n"]
    settled: bool
    interrupted: bool
