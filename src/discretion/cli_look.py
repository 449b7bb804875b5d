"""The verbs for looking: report, figures, view, rulings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discretion.cli_app import Cases, JsonFlag, Quiet, SavedAudit, Seed, app
from discretion.console import existing, outcome, progress_bar, say


@app.command()
def report(
    saved: SavedAudit,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file. Default: report.html in AUDIT.")] = None,
    cases: Cases = 0,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Write an audit as one HTML file that opens anywhere, offline; nothing is drawn by chance: --seed has no effect.

    Example: `discretion report audits/assistant --cases 50`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        from discretion.report.page import write
        from discretion.saved import load

        with progress_bar(quiet) as progress:
            progress("loading", 0.0)
            audit = load(saved)
            progress("drawing", 0.5)
            page = write(audit, out if out is not None else Path(saved) / "report.html", cases=cases, source=saved)
        if as_json:
            from dataclasses import asdict

            from discretion.document import dumps
            from discretion.findings import findings, what_was_audited

            found = [asdict(f) for f in findings(audit)]
            document = {"report": str(page), "bytes": page.stat().st_size, "summary": what_was_audited(audit)}
            typer.echo(dumps(document | {"findings": found}))
        else:
            say(quiet, f"Report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
        if open_it:
            import webbrowser

            webbrowser.open(page.resolve().as_uri())


@app.command()
def figures(
    saved: SavedAudit,
    format: Annotated[str, typer.Option("--format", "-f", help="pdf, svg or png.")] = "pdf",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder. Default: figures in AUDIT.")] = None,
    scale: Annotated[float, typer.Option(help="Pixels of a PNG for each point of a figure.", min=0.1, max=20)] = 2.0,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Write each figure of an audit to a file of its own, for a paper; nothing is drawn by chance: no effect of --seed.

    Example: `discretion figures audits/assistant --format svg`
    """
    existing(saved, "AUDIT")
    if format not in ("pdf", "svg", "png"):
        raise typer.BadParameter(f"{format!r} is none of pdf, svg, png.", param_hint="--format")
    with outcome(as_json):
        from discretion.report.files import write_figures
        from discretion.saved import load

        folder = out if out is not None else Path(saved) / "figures"
        with progress_bar(quiet) as progress:
            written = write_figures(load(saved), folder, format=format, scale=scale, progress=progress)
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps({"files": [str(path) for path in written]}))
        else:
            say(quiet, f"{len(written)} figures in {folder}")


@app.command()
def view(
    saved: SavedAudit,
    port: Annotated[
        int | None, typer.Option(help="Default: 8642, or a free one where that is taken.", min=0, max=65535)
    ] = None,
    at: Annotated[str, typer.Option(help="Where to begin, as a report says: 'cases?state=conflict'.")] = "",
    open_it: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Explore the cases of an audit and rule on them, in the browser, on this machine only; --seed has no effect.

    Example: `discretion view audits/assistant`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        from discretion.viewer.serve import serve

        serve(Path(saved), port=port, at=at, open_browser=open_it, as_json=as_json, quiet=quiet)


@app.command()
def rulings(
    saved: SavedAudit,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write them to a .jsonl file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those superseded or withdrawn too.")] = False,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Show or export the rulings that reviewers recorded on an audit's cases; --seed has no effect.

    Example: `discretion rulings audits/assistant --out rulings.jsonl`
    """
    existing(saved, "AUDIT")
    if out is not None and out.suffix != ".jsonl":
        raise typer.BadParameter(f"{str(out)!r} does not end in .jsonl.", param_hint="--out")
    with outcome(as_json):
        from discretion.rulings import json_lines, read, write_jsonl
        from discretion.saved import require_saved

        require_saved(saved)
        docket = read(saved)
        if out is not None:
            write_jsonl(docket, out, standing_only=not every)
        if as_json:
            import json

            from discretion.document import dumps

            found = [json.loads(line) for line in json_lines(docket, standing_only=not every)]
            typer.echo(dumps({"rulings": found, "unreadable": docket.unreadable}))
        else:
            from rich.console import Console

            from discretion.terminal_rulings import show_rulings

            show_rulings(docket, Console(highlight=False), standing_only=not every)
            if out is not None:
                say(quiet, f"\nWritten to {out}")
