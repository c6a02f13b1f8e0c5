"""Whether the optimizer's steps stay within what the steepest direction bears."""

from dataclasses import dataclass

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Stability:
    r"""The sharpness in the optimizer's own metric, beside the largest at which its steps do not grow.

    Full-batch training that goes on long enough sharpens up to the limit and stays there, at the edge of stability
    (Cohen et al., 2021, arXiv:2103.00065; adaptive optimizers: 2022, arXiv:2207.14484). With small batches it
    settles below. Above, the steps along the steepest direction grow until the loss is no quadratic there.

    Attributes:
        optimizer: Class name.
        sharpness: $\eta \lambda_{max}(P^{-1/2} H P^{-1/2})$, a pure number, with P = diag(sigma + epsilon) of
            an adaptive optimizer and P = 1 of others. A Rayleigh quotient on the half that judges: never more than
            the largest eigenvalue there. Its error is that of sampling and of the few products together.
        limit: Of that number, for the optimizer's rule: 2 for gradient descent, RMSprop and Adagrad, 2 (1 + beta)
            with heavy-ball momentum, 2 (1 + beta) / (1 + 2 beta) with Nesterov's, 2 (1 + beta1) / (1 - beta1) for
            Adam, whose momentum is an average: 38 at 0.9. Groups of several limits are brought to the least.
        one_rate: All parameters move at one rate, so that the sharpness is that of the Hessian times this rate.
    """

    optimizer: str
    sharpness: Estimate
    limit: float
    one_rate: bool

    @property
    def ratio(self) -> Estimate:
        """The sharpness over its limit: above 1 the steps grow."""
        return self.sharpness / self.limit
