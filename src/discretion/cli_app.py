"""The command line itself and the options that verbs share; the verbs are in `cli` and the other `cli_*`."""

from __future__ import annotations

from typing import Annotated

import typer

from discretion import __version__

app = typer.Typer(
    name="discretion",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Audit alignment discretion: how the judges of AI answers settle what the principles leave open.\n\n"
    "Exit codes: 0 done, 1 the run failed, 2 wrong use.",
)

Study = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A study: a folder, a TOML file, an AnnotatedPairs JSON, or a saved audit."),
]
SavedAudit = Annotated[str, typer.Argument(metavar="AUDIT", help="A folder that `audit` saved.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]
Seed = Annotated[int, typer.Option(help="Of all randomness.", min=0)]
Replicates = Annotated[int, typer.Option(help="Bootstrap replicates.", min=0, max=1_000_000)]
Cases = Annotated[int, typer.Option(help="How many cases the report embeds, with their texts.", min=0)]
Extra = Annotated[
    list[str] | None,
    typer.Option(
        "--annotator", metavar="NAME=FILE", help="A further annotator; NAME=FILE::FORMAT names the format. Repeatable."
    ),
]
PriorText = Annotated[
    str | None, typer.Option(metavar="KIND:SCALE", help="MAP fit: gaussian:1.5 or pseudocount:0.5. Default: MLE.")
]
Threads = Annotated[int | None, typer.Option(help="Default: one a core.", min=1)]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"discretion {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
