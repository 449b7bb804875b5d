"""The verb for tables that outgrow one machine: audit-partitions.

It shows what `audit` shows, as far as counts by unit have it; what it writes is for reading, not for `show` or `diff`,
which need the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from discretion.cli_app import JsonFlag, PriorText, Quiet, Replicates, Seed, Threads, app
from discretion.console import outcome, progress_bar, read_prior, say

if TYPE_CHECKING:
    from discretion.audit import Audit


@app.command(name="audit-partitions")
def audit_partitions(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Wide Parquet files: a folder, one file, or a URL such as s3://….")
    ],
    engine: Annotated[str, typer.Option(help="Where they are counted: here or ray.")] = "here",
    address: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="Of the Ray cluster. Default: a new one on this machine."),
    ] = None,
    reference: Annotated[str | None, typer.Option(help="The annotator that others are compared with.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Attribute to resample by: topic, prompt, …")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="Attribute to group by: topic, … Repeated: crossed. 64 groups at most."),
    ] = None,
    units: Annotated[
        int | None, typer.Option(help="Blocks to resample, at the most. Default: 4096 or fewer.", min=2)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the figures: figures.json and a Parquet file each.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Keep the counts of each file: an audit that was cut off counts what is missing."
        ),
    ] = None,
    replicates: Replicates = 1000,
    prior: PriorText = None,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Audit a table that is cut into Parquet files, in this process or on a Ray cluster, with the same figures.

    Example: `discretion audit-partitions s3://bucket/votes --engine ray --address auto --out figures`
    """
    if engine not in ("here", "ray"):
        raise typer.BadParameter(f"{engine!r} is neither here nor ray.", param_hint="--engine")
    if address is not None and engine != "ray":
        raise typer.BadParameter("an address is that of a Ray cluster: add --engine ray.", param_hint="--address")
    if "://" not in folder and not Path(folder).exists():
        raise typer.BadParameter(f"there is no folder or file {folder!r} on this machine.", param_hint="FOLDER")
    fit = read_prior(prior)
    kept = "" if keep is None else f"Interrupted; what was counted is in {keep}. Run it again to go on."
    with outcome(as_json, interrupted=kept):
        from discretion.document import dumps
        from discretion.scale import auditing
        from discretion.scale.figures import figures_document, writable, write_figures

        if out is not None:
            writable(out)
        with progress_bar(quiet or as_json) as progress:
            result = auditing.audit_partitions(
                folder, engine=engine, address=address, replicates=replicates, seed=seed, reference=reference,
                cluster=cluster, by=by or (), prior=fit, units=units, threads=threads, keep=keep, progress=progress,
            )  # fmt: skip
        document = dumps(figures_document(result))
        if out is not None:
            write_figures(result, document, out)
        if as_json:
            typer.echo(document)
        else:
            from rich.console import Console

            from discretion.terminal import show
            from discretion.terminal_groups import show_groups

            console = Console(highlight=False)
            show(cast("Audit", result), console)  # whatever reads figures alone takes it for one
            show_groups(result, console)
        if out is not None:
            say(quiet or as_json, f"\nFigures: {out}")
