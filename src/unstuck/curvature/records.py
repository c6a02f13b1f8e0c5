"""What is known about the eigenvalues of a Hessian, each number with its error."""

from dataclasses import dataclass

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
        exact: All eigenvalues were computed from the materialised Hessian.
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
