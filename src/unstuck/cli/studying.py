"""What `unstuck study` does, once its arguments have been read."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from unstuck.cli.loading import say
from unstuck.cli.output import prepare, put, write
from unstuck.cli.progress import shown
from unstuck.study.catalogue import STUDIES, chosen
from unstuck.study.document import to_csv, to_json, to_text
from unstuck.study.records import Result, Scale, Study, StudyError
from unstuck.study.running import Told, run_study
from unstuck.study.store import Store

DONE = 0

STANDARD_OUTPUT = "-"
STORE = "runs.sqlite"


@dataclass(frozen=True)
class Ask:
    """What was asked for; the fields are the options of the command."""

    names: tuple[str, ...]
    out: str
    scale: Scale
    seeds: int | None
    jobs: int
    resume: bool
    json: str | None


def listed() -> int:
    """List the studies, one line each."""
    width = max(map(len, STUDIES))
    put("".join(f"{study.name:{width}}  {study.title}\n" for study in STUDIES.values()), sys.stdout)
    return DONE


def scaled(word: str) -> Scale:
    """Read the scale.

    Raises:
        StudyError: There is none of that name.
    """
    if word not in set(Scale):
        msg = f"--scale must be {' or '.join(Scale)}, not {word!r}"
        raise StudyError(msg)
    return Scale(word)


def run(ask: Ask) -> int:
    """Run the studies one after the other, and write each out as soon as it is done; gives the exit code.

    Raises:
        UnstuckError: There is no study of a name, a run failed, or a file cannot be written.
    """
    studies = chosen(ask.names)
    folder = prepare(f"{ask.out}/{STORE}").parent
    errors = Console(stderr=True)
    results: list[Result] = []
    with Store(folder / STORE) as store:
        for study in studies:
            result = _ran(ask, study, store, errors)
            results.append(result)
            if ask.json != STANDARD_OUTPUT:
                put(("\n" if len(results) > 1 else "") + to_text(result) + "\n", sys.stdout)
            _write(result, folder, index=len(studies) > 1)
    _conclude(ask, results, folder, errors)
    return DONE


def _ran(ask: Ask, study: Study, store: Store, errors: Console) -> Result:
    with shown(errors, left=True) as told:
        return run_study(
            study,
            store,
            scale=ask.scale,
            seeds=ask.seeds,
            jobs=ask.jobs,
            resume=ask.resume,
            progress=told if errors.is_terminal else _sparing(told),
        )


def _sparing(told: Told) -> Told:
    """Tell every tenth of the way, where each is a line."""
    last = -1

    def tell(stage: str, share: float) -> None:
        nonlocal last
        if int(10 * share) != last:
            last = int(10 * share)
            told(stage, share)

    return tell


def _write(result: Result, folder: Path, *, index: bool) -> None:
    from unstuck.study.page import to_html  # noqa: PLC0415 - Plotly takes half a second to import

    write(folder / f"{result.study.name}.csv", to_csv(result.table))
    write(folder / f"{result.study.name}.html", to_html(result, index=index))


def _conclude(ask: Ask, results: Sequence[Result], folder: Path, errors: Console) -> None:
    from unstuck.study.page import gallery  # noqa: PLC0415 - as above

    if len(results) > 1:
        write(folder / "index.html", gallery(results))
    first = "index" if len(results) > 1 else results[0].study.name
    say(errors, f"wrote {folder / first}.html")
    if ask.json == STANDARD_OUTPUT:
        put(to_json(results) + "\n", sys.stdout)
    elif ask.json:
        path = prepare(ask.json)
        write(path, to_json(results) + "\n")
        say(errors, f"wrote {path}")
