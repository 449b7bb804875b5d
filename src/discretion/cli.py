"""The command line: verbs in the order of the data.

Heavy modules are imported by the verb that needs them, so that `--help` is instant. Results go to standard
output, progress and messages to standard error.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discretion.cli_app import (
    Cases,
    Extra,
    JsonFlag,
    PriorText,
    Quiet,
    Replicates,
    SavedAudit,
    Seed,
    Study,
    Threads,
    app,
)
from discretion.console import checked_settings, existing, named_files, outcome, progress_bar, read_prior, say
from discretion.errors import StudyError

if TYPE_CHECKING:
    from discretion.audit import Audit


def _audited(
    study: str,
    annotators: dict[str, str],
    progress: Callable[[str, float], None],
    options: dict[str, Any],
) -> Audit:
    """Audit a study, or read an audit that was saved; options that are None come from the study's settings."""
    from discretion.saved import is_saved_audit, load

    if is_saved_audit(study):
        if annotators:
            raise StudyError(f"{study} is a saved audit: annotators can be added to a study only.")
        return load(study)
    from discretion.audit import audit
    from discretion.study import load_study

    progress("loading", 0.0)
    loaded = load_study(study, annotators=annotators, cluster=options.get("cluster"))
    settings = checked_settings(loaded.settings)
    if loaded.cluster is not None:
        settings["cluster"] = loaded.cluster
    settings.update({k: v for k, v in options.items() if v is not None})
    return audit(
        loaded.table,
        name=loaded.name,
        comparisons=loaded.comparisons,
        warnings=loaded.warnings,
        progress=progress,
        **settings,
    )


def _print(audit: Audit, as_json: bool) -> None:
    if as_json:
        from discretion.document import audit_document, dumps

        typer.echo(dumps(audit_document(audit)))
        return
    from rich.console import Console

    from discretion.terminal import show

    show(audit, Console(highlight=False))


@app.command()
def audit(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study: a folder, a TOML file or an AnnotatedPairs JSON.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to save the audit in. Default: audits/NAME.")
    ] = None,
    annotator: Extra = None,
    reference: Annotated[str | None, typer.Option(help="The annotator that others are compared with.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Attribute to resample by: topic, prompt, …")] = None,
    replicates: Annotated[int | None, typer.Option(help="Bootstrap replicates. [default: 1000]", min=0)] = None,
    prior: PriorText = None,
    seed: Annotated[int | None, typer.Option(help="Of all randomness. [default: 0]", min=0)] = None,
    threads: Threads = None,
    texts: Annotated[bool, typer.Option(help="Save prompts and responses with the audit.")] = True,
    report: Annotated[bool, typer.Option("--report", help="Write report.html beside the audit too.")] = False,
    cases: Cases = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Audit a study: states, arbitrariness, supremacy, priority, discrepancy, each with its uncertainty.

    Example: `discretion audit examples/assistant --annotator mine=mine.csv --out audits/mine`
    """
    existing(study)
    extra, fit = named_files(annotator), read_prior(prior)
    with outcome(as_json):
        from discretion.saved import is_saved_audit, save

        if is_saved_audit(study):
            raise StudyError(f"{study} is a saved audit already; show it with: discretion show {study}")
        options = {
            "reference": reference, "cluster": cluster, "replicates": replicates, "prior": fit, "seed": seed,
            "threads": threads,
        }  # fmt: skip
        with progress_bar(quiet) as progress:
            result = _audited(study, extra, progress, options)
            progress("saving", 0.0)
            folder = save(result, out if out is not None else Path("audits") / _folder_name(study), texts=texts)
            page = None
            if report:
                from discretion.report.page import write

                progress("drawing the report", 0.0)
                page = write(result, folder / "report.html", cases=cases, source=str(folder))
        _print(result, as_json)
        say(
            quiet or as_json,
            (f"\nReport: {page}" if page else "")
            + f"\nSaved in {folder}\nNext: discretion view {folder}\n"
            + ("" if page else f"      discretion report {folder}\n")
            + f"      discretion diagnose {folder}\n"
            + f"      discretion influence {folder} --annotator {result.settings.reference or 'NAME'}\n"
            f"      discretion diff {folder} OTHER-AUDIT --fail-if arbitrariness",
        )


def _folder_name(study: str) -> str:
    path = Path(study).resolve()
    stem = path.parent.name if path.name == "study.toml" else path.stem if path.is_file() else path.name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).lstrip(".") or "audit"


@app.command()
def show(
    saved: SavedAudit,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Show a saved audit again; nothing is drawn anew, so --seed has no effect.

    Example: `discretion show audits/assistant --json`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        from discretion.saved import load

        _print(load(saved), as_json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A saved audit or a study.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The audit or study to compare with it.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="FIGURE[:ANNOTATOR][>MARGIN]",
            help="Exit with 1 if this figure gets worse beyond its interval. Repeatable.",
        ),
    ] = None,
    replicates: Replicates = 1000,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Compare two audits with paired intervals: a release gate for preference data and models.

    Example: `discretion diff audits/v1 audits/v2 --fail-if "arbitrariness:reward_model>1%"`
    """
    existing(before, "A")
    existing(after, "B")
    failed = False
    with outcome(as_json):
        import os

        from discretion.diff import Gate
        from discretion.diff import diff as compare

        try:
            gates = [Gate.parse(text) for text in fail_if or []]
        except StudyError as error:
            raise typer.BadParameter(str(error), param_hint="--fail-if") from error
        with progress_bar(quiet) as progress:
            options = {"replicates": 0, "seed": seed, "splits": 0, "swaps": 0}
            first, second = (_audited(path, {}, progress, options) for path in (before, after))
            progress("comparing", 0.0)
            result = compare(first, second, replicates=replicates, seed=seed, threads=os.cpu_count() or 1)
        failures = result.failures(gates)
        failed = failures.height > 0
        if as_json:
            from discretion.document import dumps, records

            typer.echo(
                dumps(
                    {
                        "before": result.before,
                        "after": result.after,
                        "common": result.common,
                        "only_before": result.only_before,
                        "only_after": result.only_after,
                        "replicates": replicates,
                        "seed": seed,
                        "figures": records(result.frame),
                        "failures": records(failures),
                        "warnings": list(result.warnings),
                    }
                )
            )
        else:
            from rich.console import Console

            from discretion.terminal_results import show_diff

            show_diff(result, failures, bool(gates), Console(highlight=False))
    if failed:
        raise typer.Exit(1)


@app.command()
def influence(
    study: Study,
    annotator: Annotated[str, typer.Option(help="Whose figure.")],
    figure: Annotated[str, typer.Option(help="arbitrariness, discrepancy or priority.")] = "arbitrariness",
    reference: Annotated[str | None, typer.Option(help="The other annotator of a discrepancy.")] = None,
    top: Annotated[int, typer.Option(help="How many comparisons to show and write.", min=1)] = 100,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write them, with their texts, to .csv, .jsonl or .parquet.")
    ] = None,
    prior: PriorText = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """List the comparisons that drive a figure most, to read or to label again; exact, so --seed has no effect.

    Example: `discretion influence audits/assistant --annotator reward_model --out relabel.csv`
    """
    existing(study)
    fit = read_prior(prior)
    if figure not in ("arbitrariness", "discrepancy", "priority"):
        raise typer.BadParameter(f"{figure!r} is none of arbitrariness, discrepancy, priority.", param_hint="--figure")
    if out is not None and out.suffix not in (".csv", ".jsonl", ".parquet"):
        raise typer.BadParameter(f"{str(out)!r} ends in none of .csv, .jsonl, .parquet.", param_hint="--out")
    with outcome(as_json):
        import os

        from discretion.influence import influence as strongest
        from discretion.influence import with_texts, write_frame

        with progress_bar(quiet) as progress:
            source = _audited(study, {}, progress, {"replicates": 0, "splits": 0, "swaps": 0})
            other = reference if reference is not None else source.settings.reference
            fit = fit if fit is not None else read_prior(source.settings.prior)
            frame = strongest(
                source.table, annotator=annotator, figure=figure, reference=other, prior=fit,
                threads=os.cpu_count() or 1, report=lambda done: progress("leaving one out", done),
            ).head(top)  # fmt: skip
        if out is not None:
            write_frame(with_texts(frame, source.comparisons), out)
        if as_json:
            from discretion.document import dumps, records

            typer.echo(dumps({"annotator": annotator, "figure": figure, "comparisons": records(frame)}))
        else:
            from rich.console import Console

            from discretion.terminal_results import show_influence

            show_influence(frame, source.comparisons, Console(highlight=False))
            if out is not None:
                say(quiet, f"\nWritten to {out}")


@app.command()
def reproduce(
    what: Annotated[str, typer.Argument(metavar="hh", help="The study to reproduce; there is `hh`.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the public files, flat or as published. Default: download them.")
    ] = None,
    annotator: Extra = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to save the audit in.")] = None,
    replicates: Replicates = 1000,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Reproduce the published study on HH (arXiv 2502.10441) beside the published figures.

    Example: `discretion reproduce hh --data DIR --annotator mine=scores.csv`
    """
    if what != "hh":
        raise typer.BadParameter(f"{what!r} cannot be reproduced; there is: hh.", param_hint="hh")
    if data is not None:
        existing(str(data), "--data")
    extra = named_files(annotator)
    with outcome(as_json):
        from discretion.reproduce import reproduce_hh
        from discretion.saved import save

        with progress_bar(quiet) as progress:
            result = reproduce_hh(
                data, annotators=extra, replicates=replicates, seed=seed, threads=threads, progress=progress
            )
            folder = save(result.audit, out) if out is not None else None
        if as_json:
            from discretion.document import audit_document, dumps, records

            document = audit_document(result.audit) | {
                "published": records(result.frame),
                "states_published": records(result.states),
                "absent": list(result.absent),
            }
            typer.echo(dumps(document))
        else:
            from rich.console import Console

            from discretion.terminal_results import show_reproduction

            show_reproduction(result, Console(highlight=False))
            if folder is not None:
                say(quiet, f"\nSaved in {folder}\nNext: discretion show {folder}")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a dash that an old code page lacks is no reason to fail
    app()


from discretion import cli_exchange, cli_hedge, cli_judge, cli_look, cli_plan, cli_scale, cli_transfer, cli_who  # noqa: E402, F401 - add their verbs, behind those above in the help
