"""The commands, their options and help."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from unstuck.cli.arguments import finite, seconds, size
from unstuck.cli.endings import interruptible
from unstuck.cli.examples import (
    EXAMPLES,
    RUNNING,
    SHARPNESS,
    SHOWING,
    SIZING,
    SPECTRUM,
    STUDYING,
    SURFACE,
    TREATING,
)
from unstuck.cli.options import (
    FLAG,
    Along,
    Blocks,
    Budget,
    Check,
    Checkpoint,
    Debug,
    Exact,
    HistoryFile,
    Html,
    Json,
    MaybeOut,
    Memory,
    More,
    NoTrials,
    Only,
    Out,
    Recorded,
    RemedyName,
    Resume,
    Seed,
    Steps,
    Target,
    ToLoss,
    Top,
)
from unstuck.cli.output import put
from unstuck.watching.defaults import FEWEST_PLACES, FOLDER, SHARE

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool | None) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"unstuck {version('unstuck')}")
        raise typer.Exit


Version = Annotated[
    bool | None,
    typer.Option("--version", metavar=FLAG, callback=_version, is_eager=True, help="Show the version."),
]


@app.callback(epilog=EXAMPLES)
def root(*, show_version: Version = None) -> None:
    """Tell why the loss of a PyTorch training has stopped going down: saddle, minimum, or neither."""
    del show_version  # its callback has shown it


@app.command(epilog=EXAMPLES)
@interruptible()
def diagnose(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    history: HistoryFile = None,
    budget: Budget = "60s",
    no_trials: NoTrials = False,
    only: Only = None,
    memory: Memory = None,
    resume: Resume = None,
    html: Html = None,
    json: Json = None,
    seed: Seed = 0,
    check: Check = False,
    debug: Debug = False,
) -> int:
    """Tell why a training is stuck. Nothing of it is changed.

    Exit code: 0 done, 1 a finding asks for action (with --check), 2 bad usage or input, 130 interrupted.
    """
    del debug  # `main` looks for it itself, before anything can fail
    limit, room = seconds(budget), size(memory)
    from unstuck.cli.diagnosing import Request, run  # noqa: PLC0415 - see the package

    chosen = tuple(only or ())
    return run(
        Request(
            target,
            checkpoint,
            steps,
            history,
            limit,
            not no_trials,
            html,
            json,
            seed,
            check,
            chosen,
            room,
            resume,
        )
    )


@app.command(epilog=TREATING)
@interruptible("interrupted; nothing was written")
def treat(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    out: Out,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    remedy: RemedyName = None,
    more: More = None,
    budget: Budget = "60s",
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Diagnose, apply the best proven remedy, go on for a while, and write a checkpoint.

    The checkpoint has the form of the one that was loaded, so that your script can load it; what to change in
    the script is printed. Where no remedy is proved to help, nothing is written.
    """
    del debug  # `main` looks for it itself
    limit = seconds(budget)
    from unstuck.cli.treating import Treat, run  # noqa: PLC0415 - see the package

    return run(Treat(target, out, checkpoint, steps, remedy, more, limit, seed))


@app.command()
@interruptible("interrupted; nothing was written")
def escape(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    out: MaybeOut = None,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    budget: Budget = "60s",
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Leave a saddle point: along negative curvature and down, without anything to tune.

    One remedy alone, without a diagnosis. Where there is no way down, nothing is written.
    """
    del debug  # `main` looks for it itself
    limit = seconds(budget)
    from unstuck.cli.treating import Escape, leave  # noqa: PLC0415 - see the package

    return leave(Escape(target, out, checkpoint, steps, limit, seed))


@app.command(epilog=SIZING)
@interruptible()
def batch(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    to: ToLoss = None,
    budget: Budget = "20s",
    html: Html = None,
    json: Json = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Help to decide on a batch size: time, noise, and the run continued at several sizes. Nothing is changed.

    A learning rate that is far off is said first, for what a size is good for depends on it.
    """
    del debug  # `main` looks for it itself
    limit, to = seconds(budget), finite(to)
    from unstuck.cli.sizing import Size  # noqa: PLC0415 - see the package
    from unstuck.cli.sizing import run as size  # noqa: PLC0415 - see the package

    return size(Size(target, checkpoint, steps, to, limit, html, json, seed))


@app.command(
    epilog=RUNNING,
    # Whatever follows the script belongs to it.
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
)
def run(  # noqa: PLR0913 - each option is an argument
    script: Annotated[str, typer.Argument(metavar="SCRIPT", help="The script, as for `python`.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Its own arguments.")
    ] = None,
    *,
    module: Annotated[
        bool, typer.Option("-m", metavar=FLAG, help="SCRIPT is the name of a module, as for `python -m`.")
    ] = False,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the run's file.")] = FOLDER,
    share: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.5, metavar="SHARE", help="Share of the time for looks at the live graph; 0: none."
        ),
    ] = SHARE,
    path: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Keep N snapshots of the weights, spread over the run, in files beside the run's, of a gigabyte at "
            "most: for `unstuck surface --run`.",
        ),
    ] = 0,
    tensorboard: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Write the numbers and findings for TensorBoard there, too."),
    ] = None,
) -> Callable[[], None]:
    """Run a training script as it is, watch its steps, and say why when its loss stands still.

    The script runs as under `python`, to the same result, bit for bit; its exit code is the exit code.
    """
    from unstuck.watching.running import run as run_script  # noqa: PLC0415 - see the package
    from unstuck.watching.script import Script  # noqa: PLC0415 - see the package

    wanted = Script(script, tuple(arguments or ()), module)
    wanted.check()
    if path and path < FEWEST_PLACES:
        msg = f"{path} snapshots show no path: {FEWEST_PLACES} at least"
        raise typer.BadParameter(msg, param_hint="--path")
    return lambda: run_script(wanted, out=out, share=share, board=tensorboard, path=path)


@app.command(epilog=SHOWING)
@interruptible()
def show(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The file of a recorded run, or a folder of runs: then the newest."
        ),
    ],
    *,
    html: Html = None,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the run as JSON; '-' for standard output."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", metavar=FLAG, help="On a terminal: draw it again every second until it ends."
        ),
    ] = False,
    debug: Debug = False,
) -> int:
    """Show a run that was recorded: loss and gradient, what was found, how it stands. It may still be going on."""
    del debug  # `main` looks for it itself
    from unstuck.cli.showing import Show  # noqa: PLC0415 - see the package
    from unstuck.cli.showing import show as show_run  # noqa: PLC0415 - see the package

    return show_run(Show(run, html, json, follow))


@app.command(epilog=SHARPNESS)
@interruptible()
def sharpness(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    budget: Budget = "60s",
    exact: Exact = False,
    only: Only = None,
    memory: Memory = None,
    resume: Resume = None,
    html: Html = None,
    json: Json = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Tell how sharp the loss is around the weights: the steepest curvature, the rise within a box and within a ball.

    Each measure comes with its error, its cost and what it cannot say. Nothing of the training is changed.
    """
    del debug  # `main` looks for it itself
    limit, room = seconds(budget), size(memory)
    from unstuck.cli.looking import Look, look  # noqa: PLC0415 - see the package
    from unstuck.flatness import sharpness as measure  # noqa: PLC0415 - see the package

    asked = Look(target, checkpoint, steps, limit, html, json, seed, tuple(only or ()), room, resume)
    return look(asked, measure, exact=exact)


@app.command(epilog=SPECTRUM)
@interruptible()
def spectrum(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    top: Top = 10,
    blocks: Blocks = False,
    budget: Budget = "60s",
    only: Only = None,
    memory: Memory = None,
    resume: Resume = None,
    html: Html = None,
    json: Json = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Tell how the loss bends: both ends of the Hessian's spectrum, its density, trace, certificate.

    Of an adaptive optimizer in its own metric as well. Each number comes with its error. Nothing is changed.
    """
    del debug  # `main` looks for it itself
    limit, room = seconds(budget), size(memory)
    from unstuck.cli.looking import Look, look  # noqa: PLC0415 - see the package
    from unstuck.spectra import spectrum as measure  # noqa: PLC0415 - see the package

    asked = Look(target, checkpoint, steps, limit, html, json, seed, tuple(only or ()), room, resume)
    return look(asked, measure, top=top, blocks=blocks)


@app.command(epilog=SURFACE)
@interruptible()
def surface(  # noqa: PLR0913 - each option is an argument
    target: Target,
    *,
    checkpoint: Checkpoint = None,
    steps: Steps = 0,
    along: Along = "all",
    run: Recorded = None,
    budget: Budget = "60s",
    exact: Exact = False,
    only: Only = None,
    memory: Memory = None,
    resume: Resume = None,
    html: Html = None,
    json: Json = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Show what the loss looks like around the weights: lines of equal loss, surfaces to be turned, and slices.

    Coarse at first, then finer while there is time; after Ctrl-C what there is. Nothing of the training is changed.
    """
    del debug  # `main` looks for it itself
    limit, room = seconds(budget), size(memory)
    from unstuck.cli.looking import Look, look  # noqa: PLC0415 - see the package
    from unstuck.panorama import surface as measure  # noqa: PLC0415 - see the package

    asked = Look(target, checkpoint, steps, limit, html, json, seed, tuple(only or ()), room, resume)
    return look(asked, measure, along=along, run=run, exact=exact)


@app.command(epilog=STUDYING)
@interruptible("interrupted; finished runs are kept: go on with --resume")
def study(  # noqa: PLR0913 - each option is an argument
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|all]...", help="Which; without any they are listed.")
    ] = None,
    *,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for pages, tables and finished runs.")
    ] = "unstuck-studies",
    scale: Annotated[
        str,
        typer.Option(metavar="small|full", help="Minutes on two cores, or as long as a clear answer takes."),
    ] = "small",
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Runs of each setting; by default each study's own."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs at a time, each in a process of its own.")
    ] = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume", metavar=FLAG, help="Keep the finished runs that are in the folder already."),
    ] = False,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the outcomes as JSON; '-' for standard output."),
    ] = None,
    debug: Debug = False,
) -> int:
    """Test the lecture's claims by experiments on real data that can come out against them.

    Each study leaves a page with figures, a table of all numbers and, in one SQLite file, its finished runs:
    after an interruption --resume goes on with the others.
    """
    del debug  # `main` looks for it itself
    from unstuck.cli.studying import Ask, listed, scaled  # noqa: PLC0415 - see the package
    from unstuck.cli.studying import run as run_studies  # noqa: PLC0415 - see the package

    if not names:
        return listed()
    return run_studies(Ask(tuple(names), out, scaled(scale), seeds, jobs, resume, json))


@app.command()
def demos() -> None:
    """List the trainings that ship with unstuck, each stuck in its own way."""
    from unstuck.demos import DEMOS  # noqa: PLC0415 - see the package

    width = max(map(len, DEMOS))
    put("".join(f"demo:{demo.name:{width}}  {demo.summary}\n" for demo in DEMOS.values()), sys.stdout)
