"""The options of the commands, each with its help."""

from typing import Annotated, Literal

import typer

# Takes no value: else the help would name a type to be given.
FLAG = ""

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="file.py:function, package.module:function or demo:NAME. The function takes no arguments and "
        "returns an unstuck.Training.",
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Load this into the training first: a file of torch.save, .safetensors, or a Hugging Face folder.",
    ),
]
HistoryFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="What the run wrote down: a run that `unstuck run` recorded, or CSV with a column `loss`, and if there "
        "are, `step`, `gradient_norm`, `learning_rate`, `validation_loss`.",
    ),
]
Steps = Annotated[
    int, typer.Option(min=0, metavar="N", help="Train N steps first, with the training's own optimizer.")
]
Budget = Annotated[str, typer.Option(metavar="TIME", help="Time to spend: 90s, 2m, 1h.")]
NoTrials = Annotated[bool, typer.Option("--no-trials", metavar=FLAG, help="Only measure; try no remedy.")]
Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Write the report as one page that works offline."),
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the answer as JSON; '-' for standard output."),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Of all randomness.")]
Check = Annotated[
    bool,
    typer.Option(
        "--check", metavar=FLAG, help="Exit with 1 if a finding asks for action, for use in scripts."
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        metavar=FLAG,
        help="Evaluate the loss at every place; by default what is smooth is interpolated, and checked.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", metavar=FLAG, help="Show the Python traceback of an error.")]


ToLoss = Annotated[
    float | None,
    typer.Option(
        "--to", metavar="LOSS", help="The loss to get to; by default as far as the budget lets the sizes get."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Look at these parameters alone, the others held fixed: names as in a shell, such as 'h.11.*', from "
        "the beginning or after a dot; may be given several times.",
    ),
]
Blocks = Annotated[
    bool,
    typer.Option(
        "--blocks", metavar=FLAG, help="Look at every layer by itself as well, the others held fixed."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="Memory to use beyond what is in use: 512MB, 24GB; by default what is free."
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Keep what is evaluated there, and go on from what it holds: run the same again after an interruption.",
    ),
]
Out = Annotated[
    str,
    typer.Option(
        "--out", metavar="FILE", help="Where to write the checkpoint; .safetensors hold the model alone."
    ),
]
MaybeOut = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write the checkpoint there.")]
Along = Annotated[
    Literal["random", "hessian", "path", "all"],
    typer.Option(
        metavar="random|hessian|path|all",
        help="Directions of the pictures: random ones, scaled like the filters; the eigenvectors of both ends of "
        "the spectrum; the principal plane of the weights' path.",
    ),
]
Recorded = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="A run that `unstuck run --path N` recorded, or a folder of runs: its path is looked along. Without "
        "one, that of a copy which goes on from here.",
    ),
]
Top = Annotated[int, typer.Option(min=1, metavar="K", help="How many eigenvalues at each end.")]
RemedyName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Apply this one, whether proved to help or not.")
]
More = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Go on for N batches with the remedy; by default as in its trial."),
]
