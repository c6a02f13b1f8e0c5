"""Which steps a `GradScaler` makes, and when it has stopped to make any."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from unstuck.watching.follower import Follower

# A `GradScaler` skips a step now and then, until its scale fits. So many in a row at a scale of 1 and below are not
# for the scale: gradients are infinite or NaN by themselves.
_REFUSED, _UNSCALED = 8, 1.0


class Scaling:
    """Hears of what a scaler is asked to do, and of what it has done.

    Attributes:
        asked: The steps that it is about to decide on: whose, and how many were made before.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Follower, int]] = []
        self._broken: deque[Follower] = deque()
        self._fused: deque[tuple[Follower, Tensor, Any]] = deque()

    def ask(self, follower: Follower) -> None:
        """Remember whose step it is about to decide on."""
        self.asked.append((follower, follower.step))

    def stepped(self, follower: Follower, optimizer: Optimizer) -> None:
        """Remember what a fused step, which is called in any case, makes its own decision by."""
        follower.undone = getattr(optimizer, "found_inf", None)

    def decided(self, scaler: Any) -> None:
        """Count the steps that it was asked to make, and made or not."""
        asked, self.asked = self.asked, []
        for follower, before in asked:
            if follower.undone is not None:
                # To read it here would wait for the device.
                self._fused.append((follower, follower.undone, scaler))
                follower.undone = None
            else:
                self._count(follower, scaler, refused=follower.step == before)

    def broken(self) -> Iterator[Follower]:
        """Give those of which it has stopped to make any step; the thread that writes calls it."""
        while self._fused:
            follower, undone, scaler = self._fused.popleft()
            self._count(follower, scaler, refused=bool(undone))
        while self._broken:
            yield self._broken.popleft()

    def _count(self, follower: Follower, scaler: Any, *, refused: bool) -> None:
        follower.refused = follower.refused + 1 if refused else 0
        if follower.refused >= _REFUSED and scaler.get_scale() <= _UNSCALED:
            self._broken.append(follower)
