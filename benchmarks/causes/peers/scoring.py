"""What packages that judge trainings say of the labelled trainings.

Each peer gets a copy of the training as it is handed in and the same batches, and goes on with the plain loop for two
epochs, but at least 200 and at most 400 steps, in the use that its README shows (torchdiag takes one look). Its words
are taken for our causes as the last table says. *Right*: the likeliest cause of its first verdict is the label, or
just as true. *First names it*: the label is one of those that its first verdict lists. *Among*: any verdict lists it.
A healthy run is right when nothing is said to be wrong; a remark that the peer itself does not call a problem can be
right, and is never a false alarm. An exception is no answer. No peer sees how the training got to where it is
handed in: curves begin there.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from joblib import Parallel, delayed

from benchmarks.causes.case import seeded
from benchmarks.causes.catalogue import BY_NAME, HALF_OF, HALVES, chosen
from benchmarks.causes.peers.watching import Said, Words, to_watch
from benchmarks.causes.results import keep
from benchmarks.tables import Table
from unstuck import Cause

PEERS = ("runmedic", "gradsnitch", "traintools", "torchdiag", "torchmortem")


@dataclass(frozen=True)
class Heard:
    """What a peer said of a case at one seed.

    Attributes:
        peer: Its name.
        case: The name of the case.
        seed: Of the setup.
        said: Its verdicts, the first first.
        seconds: Of wall time, going on included.
        error: Of the exception, if there was one.
    """

    peer: str
    case: str
    seed: int
    said: tuple[Said, ...]
    seconds: float
    error: str = ""

    @property
    def truth(self) -> set[Cause]:
        """The label, and what is just as true."""
        case = BY_NAME[self.case]
        return {case.cause, *case.also}

    @property
    def alarm(self) -> bool:
        """Whether something is said to be wrong."""
        return any(not one.note for one in self.said)

    @property
    def first(self) -> Said | None:
        """The first that is said to be wrong, or else the first remark."""
        return next(iter(sorted(self.said, key=lambda one: one.note)), None)

    @property
    def right(self) -> bool:
        """Whether the likeliest cause of the first verdict is true."""
        return self._fine or (self.first is not None and bool({*self.first.causes[:1]} & self.truth))

    @property
    def first_names_it(self) -> bool:
        """Whether the first verdict lists a true cause."""
        return self._fine or (self.first is not None and bool({*self.first.causes} & self.truth))

    @property
    def among(self) -> bool:
        """Whether any verdict lists a true cause."""
        return self._fine or any({*one.causes} & self.truth for one in self.said)

    @property
    def _fine(self) -> bool:
        return Cause.HEALTHY in self.truth and not self.alarm and not self.error


def main(arguments: argparse.Namespace) -> None:
    """Ask the peers that are installed, print the tables, and keep them if asked to."""
    peers = [peer for peer in arguments.names if peer in PEERS] or list(PEERS)
    arguments.names = [name for name in arguments.names if name not in PEERS]
    peers = _installed(peers)
    pairs = [(case.name, seed) for case in chosen(arguments) for seed in range(arguments.seeds)]
    heard: list[Heard] = []
    if peers:
        for those in Parallel(n_jobs=arguments.jobs, return_as="generator")(
            delayed(ask)(peers, *pair) for pair in pairs
        ):
            heard.extend(those)
            print("\n".join(map(_line, those)), flush=True)
    if not heard:
        return
    tables = [*totals(heard, peers), by_label(heard, peers), answers(heard, peers), words(peers)]
    print("\n" + "\n".join(map(str, tables)))
    if arguments.write:
        print(keep("causes-peers", "causes peers", __doc__ or "", tables))


def ask(peers: Iterable[str], name: str, seed: int) -> list[Heard]:
    """Ask each peer about its own copy of one case."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("torchmortem").setLevel(logging.CRITICAL)
    training = BY_NAME[name].training(seed)
    with seeded(seed):  # a loader without a generator of its own draws from torch's
        run = to_watch(training)
    found = []
    for peer in peers:
        copy = run.copy()
        judge: Callable[..., list[Said]] = _module(peer).ask
        np.random.seed(seed)  # traintools draws from it
        said, error = [], ""
        start = time.perf_counter()
        try:
            with seeded(seed), contextlib.redirect_stdout(io.StringIO()):
                said = judge(copy)
        except Exception as caught:
            error = f"{type(caught).__name__}: {' '.join(str(caught).split()):.90}"
        found.append(Heard(peer, name, seed, tuple(said), time.perf_counter() - start, error))
    return found


def totals(heard: Sequence[Heard], peers: Iterable[str]) -> list[Table]:
    """Give one table for each half, and one for all."""
    groups = {half: [one for one in heard if HALF_OF[one.case] == half] for half in HALVES}
    columns = (
        *("peer", "version", "trainings", "right", "first names it", "among", "silent", "exceptions"),
        *("false alarms", "of healthy", "median s"),
    )
    return [
        Table(f"Half: {half}", columns, [_total(peer, those) for peer in peers])
        for half, those in {**groups, "both": list(heard)}.items()
        if those
    ]


def _total(peer: str, heard: Sequence[Heard]) -> tuple[object, ...]:
    those = [one for one in heard if one.peer == peer]
    healthy = [one for one in those if BY_NAME[one.case].cause is Cause.HEALTHY]
    alarms = sum(one.alarm for one in healthy)
    return (
        peer,
        version(peer),
        len(those),
        *(_share(getattr(one, what) for one in those) for what in ("right", "first_names_it", "among")),
        sum(not one.said and not one.error for one in those),
        sum(bool(one.error) for one in those),
        f"{alarms / len(healthy):.0%}" if healthy else "",
        len(healthy),
        statistics.median(one.seconds for one in those),
    )


def by_label(heard: Sequence[Heard], peers: Sequence[str]) -> Table:
    """Give, for each label, how many each peer has right, and how many lists have it."""
    rows = []
    for cause in Cause:
        those = [one for one in heard if BY_NAME[one.case].cause is cause]
        if those:
            cells = []
            for peer in peers:
                its = [one for one in those if one.peer == peer]
                cells.append(f"{sum(one.right for one in its)} ({sum(one.among for one in its)})")
            rows.append((cause, len(those) // len(peers), *cells))
    return Table("Right, and in brackets among, by label", ("label", "trainings", *peers), rows)


def answers(heard: Sequence[Heard], peers: Sequence[str]) -> Table:
    """Give what each peer's first verdict is taken for, training by training; capitals where it is right."""
    rows = []
    for name, seed in dict.fromkeys((one.case, one.seed) for one in heard):
        its = {one.peer: one for one in heard if (one.case, one.seed) == (name, seed)}
        rows.append((name, seed, BY_NAME[name].cause, *(_answer(its[peer]) for peer in peers)))
    return Table("First verdicts", ("case", "seed", "label", *peers), rows, "In capitals where right.")


def words(peers: Iterable[str]) -> Table:
    """Give what the peers' words are taken for."""
    rows = []
    for peer in peers:
        taken: Words = _module(peer).WORDS
        rows += [(peer, said, ", ".join(causes)) for said, causes in taken.items()]
    return Table("What their words are taken for", ("peer", "words", "causes, the likeliest first"), rows)


def _installed(peers: Iterable[str]) -> list[str]:
    missing = [peer for peer in peers if importlib.util.find_spec(peer) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; `pip install -e '.[bench]'` brings all peers")
    return [peer for peer in peers if peer not in missing]


def _module(peer: str) -> object:
    return importlib.import_module(f"benchmarks.causes.peers.{peer}_")


def _share(hits: Iterable[bool]) -> str:
    counted = list(hits)
    return f"{sum(counted) / len(counted):.1%}"


def _answer(one: Heard) -> str:
    if one.error:
        return f"({one.error.split(':')[0]})"
    if one.first is None or (Cause.HEALTHY in one.truth and not one.alarm):
        return "NOTHING WRONG" if one.right else "nothing wrong"
    cause = str(next(iter(one.first.causes), one.first.words))
    return cause.upper() if one.right else cause


def _line(one: Heard) -> str:
    mark = "ok " if one.right else "NO "
    said = "; ".join(("note: " if each.note else "") + each.words for each in one.said)
    label = BY_NAME[one.case].cause
    answer = one.error or said or "nothing"
    return f"{mark} {one.peer:11} {one.case} seed {one.seed} [{label}]: {answer}, {one.seconds:.1f} s"
