r"""Optimizers made of parts: $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$, a momentum, a scale and a rate.

A recipe such as `adam()` gives the rule of a method by name; `chain` composes one of parts; `Optimizer` steps by it.
A schedule such as `warmup(500).then(cosine(10_000))` changes the rate, through `LambdaLR`; `Plateau` by the loss.
`averaged` and `Swap` take the mean of weights.
"""

from unstuck.optim.averaging import averaged, renew_batch_norm
from unstuck.optim.clip import ClipByNorm, ClipByValue
from unstuck.optim.convert import convert
from unstuck.optim.decay import DecoupledWeightDecay, WeightDecay
from unstuck.optim.errors import OptimizerError
from unstuck.optim.momenta import HeavyBall, MovingAverage, Nesterov, NesterovAverage
from unstuck.optim.optimizer import Optimizer
from unstuck.optim.plateau import Plateau, PlateauLR
from unstuck.optim.recipes import (
    adagrad,
    adagrad_mean,
    adam,
    adamw,
    amsgrad,
    gradient_descent,
    lamb,
    lars,
    momentum,
    nadam,
    nesterov,
    radam,
    rmsprop,
    rmsprop_from_first,
)
from unstuck.optim.rectified import RectifiedAverage
from unstuck.optim.rule import Part, Role, Rule, chain
from unstuck.optim.scales import (
    AverageFromFirst,
    AverageOfSquares,
    CentredAverageOfSquares,
    MaximumOfAverages,
    MeanOfSquares,
    SumOfSquares,
)
from unstuck.optim.schedule import Schedule
from unstuck.optim.schedules import (
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    one_cycle,
    polynomial,
    rectified_warmup,
    restarts,
    scaled,
    scaled_by_root,
    step_decay,
    warmup,
    warmup_stable_decay,
)
from unstuck.optim.swap import Stage, Swap, accuracy
from unstuck.optim.trust import LayerwiseRate, TrustRatio

__all__ = [
    "AverageFromFirst",
    "AverageOfSquares",
    "CentredAverageOfSquares",
    "ClipByNorm",
    "ClipByValue",
    "DecoupledWeightDecay",
    "HeavyBall",
    "LayerwiseRate",
    "MaximumOfAverages",
    "MeanOfSquares",
    "MovingAverage",
    "Nesterov",
    "NesterovAverage",
    "Optimizer",
    "OptimizerError",
    "Part",
    "Plateau",
    "PlateauLR",
    "RectifiedAverage",
    "Role",
    "Rule",
    "Schedule",
    "Stage",
    "SumOfSquares",
    "Swap",
    "TrustRatio",
    "WeightDecay",
    "accuracy",
    "adagrad",
    "adagrad_mean",
    "adam",
    "adamw",
    "amsgrad",
    "averaged",
    "chain",
    "constant",
    "convert",
    "cosine",
    "exponential",
    "gradient_descent",
    "inverse_sqrt",
    "lamb",
    "lars",
    "momentum",
    "nadam",
    "nesterov",
    "one_cycle",
    "polynomial",
    "radam",
    "rectified_warmup",
    "renew_batch_norm",
    "restarts",
    "rmsprop",
    "rmsprop_from_first",
    "scaled",
    "scaled_by_root",
    "step_decay",
    "warmup",
    "warmup_stable_decay",
]
