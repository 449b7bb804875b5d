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
        str, typer.Argument(metavar="FOLDER", help="Wide Parquet files: a folder, or with ray also s3://….")
    ],
    engine: Annotated[str, typer.Option(help="Where they are counted: here or ray.")] = "here",
    address: Annotated[
        str | None,
        typer.Option(metavar="auto|ray://…", help="Of the Ray cluster. Default: a new one on this machine."),
    ] = None,
    reference: Annotated[str | None, typer.Option(help="The annotator that others are compared with.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Attribute to resample by: topic, prompt, …")] = None,
    units: Annotated[
        int | None, typer.Option(help="Blocks to resample, at the most. Default: 4096 or fewer.", min=2)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the figures: figures.json and a Parquet file each.")
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
    if engine == "here" and not Path(folder).exists():
        raise typer.BadParameter(f"there is no folder {folder!r} on this machine.", param_hint="FOLDER")
    fit = read_prior(prior)
    with outcome(as_json):
        from discretion.document import audit_document, dumps
        from discretion.scale import auditing
        from discretion.scale.figures import writable, write_figures

        if out is not None:
            writable(out)
        with progress_bar(quiet or as_json) as progress:
            result = auditing.audit_partitions(
                folder, engine=engine, address=address, replicates=replicates, seed=seed, reference=reference,
                cluster=cluster, prior=fit, units=units, threads=threads, progress=progress,
            )  # fmt: skip
        figures = cast("Audit", result)  # whatever reads figures alone takes it for one
        document = dumps(audit_document(figures))
        if out is not None:
            write_figures(result, document, out)
        if as_json:
            typer.echo(document)
        else:
            from rich.console import Console

            from discretion.terminal import show

            show(figures, Console(highlight=False))
        if out is not None:
            say(quiet or as_json, f"\nFigures: {out}")
