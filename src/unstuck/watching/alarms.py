"""When a loss stands still, or is no number any more: what is said, written down and asked of the live graph."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace

from unstuck.findings.live.creeping import hardly_moved
from unstuck.findings.live.logged import leads_down
from unstuck.findings.live.steps import shifted
from unstuck.findings.live.strides import thrown
from unstuck.findings.live.undone import taken_back, undone
from unstuck.findings.live.verdict import conclude_last, conclude_live, conclude_logged, conclude_moving
from unstuck.findings.live.wiring import untrained
from unstuck.findings.phrases import named
from unstuck.measurements.records.live import Glimpse, Look, Recent
from unstuck.plain import finite
from unstuck.watching.files import schema
from unstuck.watching.files.store import Store
from unstuck.watching.follower import Follower
from unstuck.watching.heard import Heard
from unstuck.watching.knowing import known, lately
from unstuck.watching.looking import Looking
from unstuck.watching.losses.bursts import Outbreaks
from unstuck.watching.losses.heights import High
from unstuck.watching.losses.stalls import FIRST_LOOK, HORIZON, Moving, Stall
from unstuck.watching.models import held_by
from unstuck.watching.recent import FEWEST
from unstuck.watching.recorder import Recorder
from unstuck.watching.remarks import hindering, unsure
from unstuck.watching.sentences import (
    ELSEWHERE,
    IN_BURSTS,
    SHIFTED,
    STANDS_HIGHER,
    TOO_HIGH,
    TWIN,
    learnt,
    moves,
    stands_still,
)
from unstuck.watching.telling import Telling

# A loss that has come down to this share of where it began has nothing left to lose: it is learnt.
_NOTHING_LEFT = 1e-6

# Optimizers whose losses are remembered before those that are gone are forgotten.
_MOST_HEARD = 64

# Batches that judge, at most, before it is left open.
_MOST_JUDGES = 60


class Alarms:
    """Hears every loss, and every look.

    Attributes:
        telling: Says and writes down what comes of it.
        standing: Of each optimizer whose loss stands still, since when.
        look: The last look at the live graph.
        looking: Asks for looks.
    """

    def __init__(self, store: Store, say: Callable[[str], None], share: float) -> None:
        self._store = store
        self._heard: dict[int, Heard] = {}
        self._clock = 0
        self.telling = Telling(store, say)
        self._broken: set[int] = set()
        self._undone: set[int] = set()  # whose steps were said to be undone by later ones
        self.standing: dict[int, Stall] = {}
        self.look: Look | None = None
        self._whose: Follower | None = None
        self.looking = Looking(share, self._looked, self._glimpsed)
        self._ending = False

    # Called by the thread that writes.

    def hear(self, follower: Follower, step: int, loss: float, rate: float | None) -> None:
        """Test whether the loss still falls."""
        if not math.isfinite(loss):
            self._hear_none(follower, step)
            return
        heard = self._heard.get(follower.number) or self._begin(follower, loss)
        self._clock += 1
        heard.last = self._clock
        if self._refuses(follower):
            return
        if self._several(heard):
            self._idle(follower, step)
            return
        heard.take(loss, rate)
        high, out = heard.heights.add(loss), heard.bursts.add(loss)
        if high is not None or out is not None:
            self._remark(follower, step, high, out)
        if step & (step - 1) == 0:
            self._double(follower, heard, step, rate)
        told = heard.tests.add(loss, rate)
        if told is not None:
            self._tell(follower, told)

    def _hear_none(self, follower: Follower, step: int) -> None:
        if follower.number in self._heard:
            self._heard[follower.number].finite = False
        if follower.loss is not None and follower.number not in self._broken:
            self._break(follower, step, "loss")

    def _tell(self, follower: Follower, told: Stall | Moving) -> None:
        if isinstance(told, Stall):
            self._stand_still(follower, told)
        else:
            self._move(follower, told)

    def _double(self, follower: Follower, heard: Heard, step: int, rate: float | None) -> None:
        if (
            step >= FIRST_LOOK and self.telling.recorder is not None
        ):  # it takes a few samples to know what is reached
            for what, message, how in self._hindering(follower, self.telling.recorder):
                self.telling.note(follower, step, message, {what: how})
        warming = rate is not None and heard.rate is not None and rate > heard.rate
        heard.rate = rate
        if step >= HORIZON and not warming:
            self._creep(follower, heard)

    def refused(self, follower: Follower, step: int) -> None:
        """Say that a `GradScaler` makes no step any more."""
        if follower.number not in self._broken:
            self._break(follower, step, "gradient")

    def _refuses(self, follower: Follower) -> bool:
        """Whether its steps are none: they leave all as it was, as was said, or another one makes them inside."""
        return follower.around or (follower.number in self._broken and follower.refused > 0)

    def _begin(self, follower: Follower, loss: float) -> Heard:
        if len(self._heard) > _MOST_HEARD:
            there = {one.number for one in self.telling.followers}
            self._heard = {number: heard for number, heard in self._heard.items() if number in there}
        heard = self._heard[follower.number] = Heard(loss, self._clock)
        return heard

    def _remark(self, follower: Follower, step: int, high: High | None, out: Outbreaks | None) -> None:
        """Say what is worth a word whether or not the loss stands still."""
        if high is not None and not self._innocent(follower, self._known(follower, high.since, high.began)):
            self.telling.note(follower, step, TOO_HIGH.format(high.since, high.began), {"high": high.since})
        if out is not None:
            said = IN_BURSTS.format(out.since, out.times, out.mostly, 100 * out.share)
            self.telling.note(follower, step, said, {"bursts": out.times})

    def _hindering(self, follower: Follower, recorder: Recorder) -> list[tuple[str, str, bool | float]]:
        known = self._known(follower, 1, self._heard[follower.number].mean)
        own = [sample for _, _, sample in follower.samples]
        piled = len(recorder.alive) == 1 and len(own) >= FEWEST and all(one.piled for one in own)
        certain = len(own) >= FEWEST or not recorder.reached() or follower.unreached(FEWEST)
        return hindering(known, piled=piled, certain=certain)

    def _idle(self, follower: Follower, step: int) -> None:
        """Say, in a game too, that one of the players is not trained at all."""
        if step < FIRST_LOOK or step & (step - 1):
            return
        if follower.unreached(FEWEST):
            known = self._known(follower, 1, self._heard[follower.number].first)
            if message := untrained(known):
                self.telling.note(follower, step, message, {"left_out": known.left_out})
        if follower.twin and self.telling.recorder is not None:
            missed = held_by(follower.met - set(map(id, self.telling.recorder.listed())))
            if missed:
                self.telling.note(follower, step, TWIN.format(named(missed)), {"twin": True})

    def _several(self, heard: Heard) -> bool:
        """Whether several optimizers have losses of their own: as in a game, none of them need fall then.

        One that has not stepped in the last half of this one's time has had its part, as a pretraining has.
        """
        if self.telling.recorder is None or self.telling.recorder.single:
            return False
        since = (heard.begun + self._clock) / 2.0
        own = [one for one in self.telling.recorder.alive if not one.shares]
        return sum(self._heard[one.number].last >= since for one in own if one.number in self._heard) > 1

    def _stand_still(self, follower: Follower, stall: Stall) -> None:
        if stall.rising and self._becomes_another(follower, stall):
            self._heard[follower.number].tests.forget()
            return
        self.standing[follower.number] = stall
        level = follower.sign * stall.level
        began = self._heard[follower.number].beginning.value  # one that has always been nothing is not learnt
        done = began > 0.0 and 0.0 <= stall.level <= _NOTHING_LEFT * began
        message = learnt(stall, level) if done else stands_still(stall, level)
        self.telling.event(follower, stall.step, "stall", message, {**asdict(stall), "done": done})
        if done:
            return
        self.telling.told.setdefault(follower.number, set())
        if self.looking.why_not or self._ending:
            self.diagnose(follower, None)
            return
        follower.wanted = True
        follower.due = 0.0
        self._consult(follower, stall)

    def _becomes_another(self, follower: Follower, stall: Stall) -> bool:
        """Whether steps that lead down, as far as is known, cannot be what raises the loss; said once it is sure."""
        known = self._known(follower, stall.since, stall.level)
        if leads_down(known):
            self.telling.note(follower, stall.step, ELSEWHERE.format(stall.since), {"elsewhere": stall.since})
        return self._innocent(follower, known)

    def _innocent(self, follower: Follower, known: Recent) -> bool:
        """Whether steps lead down at their ends, as far as is known; of a young run that may not be known yet."""
        if known.overshoot is None:
            return follower.step < HORIZON and len(follower.samples) < FEWEST
        return known.overshoot.value < 0.0

    def _consult(self, follower: Follower, stall: Stall) -> None:
        """Say what the record bears out, which grows while a look is waited for; that may say more, later."""
        known = self._known(follower, stall.since, stall.level)
        found = conclude_live(known, None) if self.looking.why_not else conclude_logged(known)
        if found and {finding.cause for finding in found} != self.telling.told[follower.number]:
            self.telling.conclude(follower, follower.step, found)

    def _ask_again(self, follower: Follower, stall: Stall) -> None:
        """Where nothing has been found, and no look is to say more, ask the record as it has grown."""
        told = self.telling.told.get(follower.number)  # of a loss that is learnt nothing is asked
        if told is not None and not told and (follower.wanted or self.looking.why_not):
            self._consult(follower, stall)

    def _move(self, follower: Follower, moving: Moving) -> None:
        stall = self.standing.pop(follower.number, None)
        self.telling.told.pop(follower.number, None)
        follower.wanted = False
        message = moves(moving, follower.sign * moving.level, stall)
        self.telling.event(follower, moving.step, "moving", message, asdict(moving))

    def _break(self, follower: Follower, step: int, what: str) -> None:
        self._broken.add(follower.number)
        heard = self._heard.get(follower.number)
        began, last = (None, math.nan) if heard is None else (heard.first, heard.loss)
        known = Recent(step, step, last, 1.0, began=began, not_finite=step, broken=what)
        self.telling.conclude(follower, step, conclude_live(known, None))

    # Called by the thread that trains.

    def _looked(self, look: Look | None, why_not: str) -> bool:
        """Take a look, or why there is none; says whether more batches should judge."""
        follower = self.looking.subject
        if look is not None and isinstance(follower, Follower):
            self.look, self._whose = look, follower
            document = json.dumps(finite(asdict(look)))
            row = (follower.number, look.step, self.telling.now, look.seconds, look.gradients, document)
            self._store.put(schema.LOOKS, row)
            return follower.wanted and not self.diagnose(follower, look)
        for follower in self.telling.followers:
            message = f"the live graph is not looked at: {why_not}"
            self.telling.event(follower, follower.step, "note", message, {}, aloud=False)
            if follower.wanted:
                self.diagnose(follower, None)
        return False

    def _glimpsed(self, glimpse: Glimpse) -> None:
        """Take what a graph shows by itself, while a look is waited for."""
        follower = self.looking.subject
        if isinstance(follower, Follower):
            follower.glimpse = glimpse
            stall = self.standing.get(follower.number)
            if stall is not None and follower.wanted:
                self._consult(follower, stall)

    def diagnose(self, follower: Follower, look: Look | None) -> bool:
        """Say why the loss stands still; where that is not clear from so few batches, wait for more.

        Gives whether it has been said.
        """
        stall = self.standing.get(follower.number)
        if stall is None or self.telling.recorder is None:
            follower.wanted = False
            return True
        known = self._known(follower, stall.since, stall.level)
        findings = conclude_live(known, look)
        if not findings and look is not None and look.judges < _MOST_JUDGES and not self._ending:
            return False
        findings = findings or conclude_last(known, look)
        follower.wanted = False
        if look is None and not findings and self.telling.told[follower.number]:
            return True  # what has been said is not gainsaid by a record that bears it out a little less
        if shifted(known, look):
            self.telling.note(follower, follower.step, SHIFTED, {"shifted": True})
        if not findings or {finding.cause for finding in findings} != self.telling.told[follower.number]:
            self.telling.conclude(follower, follower.step, findings, self._unsure(follower, known, look))
        return True

    def finish(self) -> None:
        """Say what has not been said: of what still waits for a look, or stands still since the last test."""
        self._ending = True
        for follower in self.telling.followers:
            heard = self._heard.get(follower.number)
            if self._refuses(follower) or (heard is not None and not heard.finite):
                continue  # nothing comes after that
            stall = self.standing.get(follower.number)
            if follower.wanted:
                self.diagnose(follower, self._seen(follower, stall))
            elif stall is not None:
                self._ask_again(follower, stall)
            elif heard is not None and not self._several(heard):
                stall = heard.tests.conclude()
                if stall is not None:
                    self._stand_still(follower, stall)
                elif follower.step >= FIRST_LOOK:
                    self._creep(follower, heard)
                    self._look_back(follower, heard)

    def _seen(self, follower: Follower, stall: Stall | None) -> Look | None:
        """Give the last look at it; one made while the loss still moved does not show where it stands still."""
        if self.look is None or self._whose is not follower or stall is None:
            return None
        return self.look if self.look.step >= stall.since else None

    def _look_back(self, follower: Follower, heard: Heard) -> None:
        """Say that the loss ends far above where it stood."""
        before = heard.tests.stood_half_as_high()
        if before is not None and follower.step >= HORIZON:
            message = STANDS_HIGHER.format(before[0], follower.sign * before[1])
            self.telling.note(follower, follower.step, message, {"higher": before[0]})

    def _creep(self, follower: Follower, heard: Heard) -> None:
        """Say what holds though noise hides that the loss stands still, or it falls next to nothing."""
        stall = self.standing.get(follower.number)
        if stall is not None:
            self._ask_again(follower, stall)
        elif follower.number in self._undone:
            self._take_back(follower, heard)
        elif not self.telling.noted(follower, "creep"):
            self._ask_moving(follower, heard)

    def _ask_moving(self, follower: Follower, heard: Heard) -> None:
        known = self._known(follower, 1, heard.mean)
        found = conclude_moving(known)
        if found is None and self._may_be_undone(follower):
            now = lately(follower, heard, self.telling.recorder)
            found = None if now is None else undone(now)
            self._undone |= {follower.number} if found else set()
        # What steps do now is said before what they may have done at first, and of where the loss has come to since:
        # the mean of all is that of the first spike.
        pace = heard.tests.pace()
        found = found or (None if pace is None else thrown(replace(known, level=pace.level)))
        if found is not None:
            self.telling.once(follower, "creep")
            self.telling.conclude(follower, follower.step, (found,))
        elif follower.step >= HORIZON and (message := hardly_moved(known)):
            self.telling.note(follower, follower.step, message, {"hardly": True})

    def _may_be_undone(self, follower: Follower) -> bool:
        """Whether it is told that steps are undone: not of what has been seen to become another loss.

        That shorter steps would gain more is what a schedule may be for: of one it is said at the end.
        """
        if self.telling.noted(follower, "elsewhere"):
            return False
        return self._ending or not follower.scheduled()

    def _take_back(self, follower: Follower, heard: Heard) -> None:
        """Say that steps are not undone any more, where it is so."""
        now = lately(follower, heard, self.telling.recorder)
        if now is not None and taken_back(now):
            self._undone.remove(follower.number)
            self.telling.take_back(follower)

    def _known(self, follower: Follower, since: int, level: float) -> Recent:
        """What the record says of the steps since then."""
        return known(follower, self._heard[follower.number], self.telling.recorder, since, level)

    def _unsure(self, follower: Follower, known: Recent, look: Look | None) -> str:
        """What is said where no cause is named."""
        before = self._heard[follower.number].tests.stood_lower()
        return unsure(
            known,
            look,
            waiting=not self.looking.why_not,
            shrunk=follower.shrunk(),
            before=before and (before[0], follower.sign * before[1]),
        )
