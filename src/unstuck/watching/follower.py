"""One optimizer as it is followed: its steps, its last losses, its samples."""

import threading
import weakref
from collections import deque

from torch import Tensor, nn
from torch.optim import Optimizer

from unstuck.measurements.records.live import Glimpse
from unstuck.watching.graphs.made import NOT_SEEN
from unstuck.watching.graphs.stairs import NO_STAIRS
from unstuck.watching.models import Inventory
from unstuck.watching.sampled import Sample
from unstuck.watching.samples import Sampler

# Samples that are kept in memory, to say why a loss stands still.
_REMEMBERED = 2_000


class Follower:
    """The steps of one optimizer."""

    def __init__(self, number: int, optimizer: Optimizer, model: nn.Module | None) -> None:
        self.number = number
        self.thread = threading.get_ident()  # that makes its steps
        self.model = None if model is None else weakref.ref(model)
        self.sign = -1.0 if optimizer.param_groups[0].get("maximize") else 1.0
        self.from_zero = True  # whether all its parameters were zero before its first step, or nobody knows
        self.by_hand = False  # whether the code that makes its steps writes rates
        self.step = 0
        self.micro = 1
        self.wanted = False
        self.made = NOT_SEEN  # what its loss is made of
        self.glimpse = Glimpse()
        self.stairs = NO_STAIRS  # what lies behind step functions
        self.refused = 0  # steps in a row that a `GradScaler` has not made
        self.around = False  # whether its steps are made by another optimizer inside, as Lookahead's are
        self.undone: Tensor | None = None  # whether a fused step under a `GradScaler` has left all as it was
        self.twin = False  # whether another optimizer with a loss of its own has the very same parameters
        self.met: set[int] = set()  # ids of all that the losses of such a game depend on
        self.shares = False  # whether its loss is that of another optimizer's backward pass
        self.previous: Follower | None = None  # whose step came before its last
        self.loss: float | Tensor | None = None
        self.sampler: Sampler | None = None
        self.begun = 0.0
        self.next_sample = 0.0
        self.due = 0.0  # when the next step is to be looked at closely
        self.cost = 0.0
        self.samples: deque[tuple[int, float, Sample]] = deque(maxlen=_REMEMBERED)  # step, time, sample
        self.first: Sample | None = None
        self.together = [0, 0.0, 0]  # steps of one row, the sum of their losses, and how many are NaN

    def inventory(self) -> Inventory | None:
        """What the model has whose parameters they are, if that is known."""
        return None if self.sampler is None else self.sampler.inventory

    def shrunk(self) -> float:
        """The length of the weights over what it was at first."""
        began = self.first.weight_norm if self.first is not None else 0.0
        return self.samples[-1][2].weight_norm / began if began else 1.0

    def alive(self) -> bool:
        """Whether its optimizer is still there, and not yet another of a model that has been made anew."""
        return self.sampler is not None and bool(self.sampler.parameters())

    def erased(self) -> bool:
        """Whether its gradients are gone before it steps."""
        return self.sampler is not None and self.sampler.erased

    def unreached(self, times: int) -> bool:
        """Whether none of its parameters had a gradient the last times that was looked at, so many at least."""
        return self.sampler is not None and self.sampler.missed >= times

    def momentum(self) -> float | None:
        """What share of a step later ones repeat; None if the optimizer is gone."""
        return None if self.sampler is None else self.sampler.momentum

    def scheduled(self) -> bool:
        """Whether its rate is due to a schedule, or may be to one that the script has written itself."""
        return self.by_hand or (self.sampler is not None and self.sampler.scheduled)

    def seconds_per_step(self) -> float:
        """How long one takes, between the last two samples."""
        step, then, _ = self.samples[-2] if len(self.samples) > 1 else (0, self.begun, None)
        last, now, _ = self.samples[-1] if self.samples else (0, self.begun, None)
        return (now - then) / (last - step) if last > step else 0.0
