"""Make the runs of a study that are not finished yet, side by side, and test the claim on all of them."""

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, cast

import torch
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from unstuck.plain import finite
from unstuck.progress import Told, untold
from unstuck.study.records import Result, Row, Run, Scale, Settings, Study, StudyError, Table
from unstuck.study.store import Store

Job = tuple[Settings, int]


# Runs a worker in a call, where results come back all at once: the fewer, the sooner they are kept.
_EACH = 2


def run_study(  # noqa: PLR0913 - the options of the command
    study: Study,
    store: Store,
    *,
    scale: Scale = Scale.SMALL,
    seeds: int | None = None,
    jobs: int | None = None,
    resume: bool = False,
    progress: Told | None = None,
) -> Result:
    """Run a study and test its claim.

    Runs are made by joblib: side by side on this machine with `jobs`, or wherever a surrounding
    `joblib.parallel_config` says, such as on the workers of a Ray or Dask cluster. Each is kept in the store as soon
    as it is finished.

    Args:
        study: Which.
        store: Where finished runs are kept.
        scale: How much to run.
        seeds: How many runs of each setting; by default the study's own number.
        jobs: How many at a time; by default what joblib's configuration says, and without any, one.
        resume: Leave out those that the store has from this version of the code.
        progress: Is told what is done and which share of the whole is behind.

    Raises:
        StudyError: A run failed, or the runs cannot be kept.
    """
    count = study.seeds[scale] if seeds is None else seeds
    wanted = [(settings, seed) for settings in study.settings(scale) for seed in range(count)]
    version = code_version()
    open_ = [job for job in wanted if not (resume and store.find(study.name, *job, version))]
    told = progress or untold
    kept = done = len(wanted) - len(open_)
    told(_stage(study, done, len(wanted)), done / len(wanted))
    for (settings, seed), rows, seconds in _made(study, open_, jobs):
        store.keep(study.name, settings, seed, version, rows, seconds)
        done += 1
        told(_stage(study, done, len(wanted)), done / len(wanted))
    return _result(study, store, wanted, (scale, count, kept, version))


@cache
def code_version() -> str:
    """Name the code that runs are made with: another version, or another PyTorch, is another name."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path, content in sorted(_sources(files("unstuck"), "")):
        digest.update(path.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        path = f"{prefix}/{item.name}"
        if item.is_dir():
            yield from _sources(item, path)
        elif item.name.endswith((".py", ".npz")):
            yield path, item.read_bytes()


def _made(
    study: Study, open_: Sequence[Job], jobs: int | None
) -> Iterator[tuple[Job, tuple[Row, ...], float]]:
    """Give the runs in the order in which they finish."""
    if jobs == 1:  # without a pool Ctrl-C comes at once
        yield from (work(study.run, job) for job in open_)
        return
    calls = [delayed(work)(study.run, job) for job in open_]
    backend, configured = cast("tuple[Any, Any]", get_active_backend())
    if backend.supports_return_generator:
        yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)  # pyright: ignore[reportReturnType]
        return
    # Such as Ray's: what is finished is known when all of a call are, so that a call has few.
    parallel = Parallel(n_jobs=jobs)
    few = _EACH * int(backend.effective_n_jobs(jobs or configured or 1))
    for start in range(0, len(calls), few):
        yield from parallel(calls[start : start + few])  # pyright: ignore[reportReturnType]


def work(run: Run, job: Job) -> tuple[Job, tuple[Row, ...], float]:
    """Make one run, which sees nothing of what was before it, and time it.

    Raises:
        StudyError: It failed.
    """
    settings, seed = job
    begun = time.perf_counter()
    with _alone(seed):
        try:
            rows = run(settings, seed)
        except Exception as error:
            msg = f"the run with {dict(settings)} and seed {seed} failed: {type(error).__name__}: {error}"
            raise StudyError(msg) from error
    named = tuple({**settings, "seed": seed, **finite(dict(row))} for row in rows)
    return job, named, time.perf_counter() - begun


@contextmanager
def _alone(seed: int) -> Generator[None]:
    """One thread, since sums depend on how many there are; and generators that are put back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _result(study: Study, store: Store, wanted: Sequence[Job], facts: tuple[Scale, int, int, str]) -> Result:
    scale, seeds, kept, version = facts
    found = [store.find(study.name, *job, version) for job in wanted]
    if not all(found):
        msg = (
            f"runs of {study.name} are missing from the store: is another process writing to the same folder?"
        )
        raise StudyError(msg)
    runs = [run for run in found if run is not None]
    table = Table(tuple(row for rows, _ in runs for row in rows))
    return Result(
        study=study,
        scale=scale,
        seeds=seeds,
        table=table,
        outcomes=tuple(study.test(table)),
        seconds=sum(seconds for _, seconds in runs),
        runs=len(wanted),
        kept=kept,
        version=version,
    )


def _stage(study: Study, done: int, of: int) -> str:
    return f"{study.name}: {done} of {of} runs"
