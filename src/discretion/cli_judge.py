"""The verbs that ask models, and hold them against each other: judge, probe, compare."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discretion.cli_app import JsonFlag, Quiet, Seed, app
from discretion.console import existing, named_files, outcome, progress_bar, say
from discretion.errors import JournalError, StudyError

if TYPE_CHECKING:
    from discretion.collect import Progress

Judges = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]KIND:MODEL",
        help="chat:gpt-4o, chat:MODEL@URL, batch:…, local:…, reward:…, policy:…, inspect:…. Repeatable.",
    ),
]
Dollars = Annotated[float | None, typer.Option(help="US dollars a million tokens.", min=0)]


@app.command()
def judge(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A folder or TOML file with comparisons and a constitution.")
    ],
    oracle: Judges = None,
    annotator: Judges = None,
    template: Annotated[str, typer.Option(help="standard, published, joint, or a TOML file.")] = "standard",
    orders: Annotated[str, typer.Option(help="both, or first: only the order of the file.")] = "both",
    samples: Annotated[
        int, typer.Option(help="Draws for each judgement, where there are no probabilities.", min=1)
    ] = 1,
    budget: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Stop cleanly when so much is spent: 20usd.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked and what it may cost.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many comparisons.", min=1)] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="Where every judgement is kept. Default: judgements.sqlite in the study's folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for oracle.csv and annotators/. Default: the study's.")
    ] = None,
    at_once: Annotated[int, typer.Option(help="Calls in flight at the most.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(min=0)] = 0.0,
    key_variable: Annotated[str, typer.Option(help="Environment variable with the key.")] = "OPENAI_API_KEY",
    price_in: Dollars = None,
    price_cached: Dollars = None,
    price_out: Dollars = None,
    again: Annotated[bool, typer.Option(help="Ask again what failed.")] = True,
    until: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUESTION",
            help="Judge only until it is answered: 'arbitrariness human > 0.1', 'arbitrariness human vs model', "
            "'supremacy P vs Q', 'share conflict +- 0.03'. Repeatable.",
        ),
    ] = None,
    order: Annotated[
        str, typer.Option(help="With --until: random, relevant (what bears on it), or informative (weighted).")
    ] = "relevant",
    poll: Annotated[float, typer.Option(help="Seconds between looks at batches.", min=0)] = 60.0,
    reference: Annotated[
        str, typer.Option(metavar="MODEL", help="A policy's reference: its log-probabilities are kept beside it.")
    ] = "",
    device: Annotated[str, typer.Option(help="For models on this machine: cpu, cuda, cuda:1.")] = "",
    dtype: Annotated[str, typer.Option(help="auto (as the weights are), bfloat16, float16, float32.")] = "auto",
    batch: Annotated[int, typer.Option(help="Sequences that a model on this machine reads at a time.", min=0)] = 0,
    remote_code: Annotated[
        bool, typer.Option("--remote-code", help="Let Python code that comes with a model run.")
    ] = False,
    engine: Annotated[str, typer.Option(help="here, or ray: from many workers of a cluster.")] = "here",
    address: Annotated[
        str | None,
        typer.Option(
            help="With ray: the cluster: auto (this machine's), its head's HOST:PORT, local (a new one). Default: "
            "what RAY_ADDRESS says, else local."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="With ray: workers; 0: one a core, or one a GPU.", min=0)] = 0,
    rate: Annotated[
        float | None,
        typer.Option(help="With ray: judgements begun a second, of all workers together; retries are not counted."),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(
            help="With ray: comparisons that a worker is given at a time; if it dies they are asked again. Default: "
            "64, or for an endpoint as many as make 200 judgements.",
            min=1,
        ),
    ] = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="With ray: ask local models through vLLM.")] = False,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Ask models for the preferences of a study: each principle's, as its oracle, or their own, as annotators.

    What is known is not asked again: stop with Ctrl-C, run it again, and it goes on.

    Example: `discretion judge mystudy --oracle chat:gpt-4o --budget 20usd --dry-run`
    """
    existing(study)
    if not oracle and not annotator:
        raise typer.BadParameter("name at least one judge: --oracle KIND:MODEL or --annotator KIND:MODEL.")
    if orders not in ("both", "first"):
        raise typer.BadParameter(f"{orders!r} is neither both nor first.", param_hint="--orders")
    if until and (annotator or len(oracle or []) != 1 or dry_run or limit is not None):
        raise typer.BadParameter(
            "is for one --oracle, without --annotator, --dry-run or --limit.", param_hint="--until"
        )
    if order not in ("random", "relevant", "informative"):
        raise typer.BadParameter(f"{order!r} is none of random, relevant, informative.", param_hint="--order")
    if engine not in ("here", "ray") or (
        engine == "here" and (address or workers or vllm or block or rate is not None)
    ):
        raise typer.BadParameter(
            "expected here, or ray, to which --address, --workers, --rate, --block and --vllm belong.",
            param_hint="--engine",
        )
    if engine == "ray" and (until or dry_run):
        raise typer.BadParameter("is not for --until or --dry-run.", param_hint="--engine ray")
    money = _dollars(budget)
    with outcome(as_json):
        from discretion.document import dumps
        from discretion.judges.spec import Options, Spec
        from discretion.judging import Task, judge_study
        from discretion.judging_until import judge_until
        from discretion.terminal_judging import show_judging

        prices = {k: v for k, v in (("in", price_in), ("cached", price_cached), ("out", price_out)) if v is not None}
        options = Options(
            template=template, key_variable=key_variable, temperature=temperature, at_once=at_once,
            prices=prices or None, reference=reference, device=device, dtype=dtype, batch=batch,
            remote_code=remote_code, poll=poll,
        )  # fmt: skip
        tasks = [Task(Spec.parse(text), "oracle") for text in oracle or []]
        tasks += [Task(Spec.parse(text), "annotator") for text in annotator or []]
        with progress_bar(quiet or as_json) as progress, _stopping(quiet or as_json) as stop:
            asking: dict[str, Any] = {
                "orders": (0, 1) if orders == "both" else (0,), "samples": samples, "budget": money,
                "journal": journal, "out": out, "again": again, "stop": stop,
                "report": lambda name, p: progress(f"{name} · {_told(p)}", p.asked / max(p.asked + p.missing, 1)),
            }  # fmt: skip
            if engine == "ray":
                from discretion.scale.judging import judge_on_ray

                result = judge_on_ray(
                    study, tasks, options, address=address, workers=workers, rate=rate, block=block, vllm=vllm,
                    limit=limit, **asking,
                )  # fmt: skip
            elif until:
                result = judge_until(study, tasks[0], options, until, order=order, seed=seed, **asking)
            else:
                result = judge_study(study, tasks, options, dry_run=dry_run, limit=limit, **asking)
        if as_json:
            typer.echo(dumps(result.document()))
        else:
            from rich.console import Console

            show_judging(result, Console(highlight=False))
        if result.stopped and not dry_run:
            say(quiet or as_json, f"Stopped: {result.stopped}. Run the same command to go on.")


@app.command()
def probe(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="As for judge.")],
    oracle: Annotated[str, typer.Option(metavar="KIND:MODEL", help="The judge to probe.")],
    template: Annotated[str, typer.Option(help="standard, published, joint, or a TOML file.")] = "standard",
    sample: Annotated[int, typer.Option(help="How many comparisons.", min=1)] = 20,
    questions: Annotated[int, typer.Option(help="How many principles, the first ones.", min=1)] = 3,
    journal: Annotated[Path | None, typer.Option(help="As for judge.")] = None,
    at_once: Annotated[int, typer.Option(help="Calls in flight at the most.", min=1)] = 256,
    key_variable: Annotated[str, typer.Option(help="Environment variable with the key.")] = "OPENAI_API_KEY",
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Plant known injections in a sample of responses and see how often a judge's answer moves.

    Example: `discretion probe mystudy --oracle chat:gpt-4o --sample 30`
    """
    existing(study)
    with outcome(as_json):
        from discretion.document import dumps, records
        from discretion.judges.spec import Options, Spec
        from discretion.judging import probe_study
        from discretion.terminal_judging import show_probe

        options = Options(template=template, key_variable=key_variable, at_once=at_once)
        with progress_bar(quiet or as_json) as progress, _stopping(quiet or as_json) as stop:
            result = probe_study(
                study, Spec.parse(oracle), options, sample=sample, questions=questions, journal=journal, seed=seed,
                stop=stop,
                report=lambda p: progress(f"probing · {_told(p)}", p.asked / max(p.asked + p.missing, 1)),
            )  # fmt: skip
        if as_json:
            about = {"judge": result.judge, "comparisons": result.comparisons, "questions": result.questions,
                     "seed": result.seed, "complete": result.complete}  # fmt: skip
            typer.echo(dumps({**about, "injections": records(result.frame)}))
        else:
            from rich.console import Console

            show_probe(result, Console(highlight=False))


@app.command()
def journal(
    file: Annotated[Path, typer.Argument(metavar="JOURNAL", help="judgements.sqlite of a study.")],
    merge: Annotated[
        list[Path] | None, typer.Option(help="Add what this other journal has and this one has not. Repeatable.")
    ] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all judgements to this file.")] = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Show who judged, how often and at what cost; merge journals, or export one.

    Example: `discretion journal mystudy/judgements.sqlite --merge yours.sqlite`
    """
    for path in (file, *(merge or [])):
        existing(str(path), "JOURNAL")
    with outcome(as_json):
        from discretion.document import dumps, records
        from discretion.journal import Journal
        from discretion.journal import merge as merged
        from discretion.terminal_judging import show_journal

        added = {str(path): merged(file, path) for path in merge or []}
        with Journal.open(file, read_only=True) as kept:
            if parquet is not None:
                kept.export_parquet(parquet)
            judges = kept.judges()
        if as_json:
            typer.echo(dumps({"journal": str(file), "added": added, "judges": records(judges)}))
            return
        from rich.console import Console

        for name, count in added.items():
            say(quiet, f"Added {count:,} rows of {name}.")
        show_journal(judges, Console(highlight=False))
        if parquet is not None:
            say(quiet, f"Exported to {parquet}.")


def _dollars(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*\$?\s*(\d+(?:\.\d+)?)\s*(?:usd|\$|dollars?)?\s*", text, re.IGNORECASE)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no sum of money; write 20usd.", param_hint="--budget")
    return float(found.group(1))


def _told(progress: Progress) -> str:
    """Return how far a run is, in the width that a terminal leaves beside a bar."""
    parts = [f"{progress.rate:,.0f}/s"]
    if progress.cost == progress.cost:  # a price is known
        parts.append(f"${progress.cost:,.2f}")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.left != float("inf"):
        minutes, seconds = divmod(int(progress.left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    return " · ".join(parts)


@contextmanager
def _stopping(quiet: bool) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a clean stop, in which what is in flight is finished; a second one interrupts."""
    stop = threading.Event()

    def asked(number: int, frame: FrameType | None) -> Any:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say(quiet, "Stopping: what is in flight is finished and kept. Ctrl-C again leaves it.")

    try:
        before = signal.signal(signal.SIGINT, asked)
    except ValueError as error:  # not the main thread
        raise StudyError("judging can be started from the main thread only.") from error
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@app.command()
def compare(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A folder or TOML file; its oracle is the first one.")],
    oracle: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A further oracle. The files in the study's oracles/ are taken too."),
    ] = None,
    by_order: Annotated[
        bool, typer.Option("--by-order", help="Compare the two orders of each oracle instead of oracles.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="People's labels of what each principle prefers, on a random sample: for correction."),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Take oracles from here too. Default: the study's, where there is one.")
    ] = None,
    consensus: Annotated[
        Path | None, typer.Option(help="Write the consensus oracle to this CSV file (Dawid-Skene, or majority of two).")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="The annotator that others are compared with.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Resample comparisons that share this attribute together.")
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=0)] = 1000,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Hold oracles against each other: whether they agree, and what the audit would say with another one.

    Example: `discretion compare mystudy --oracle mini=oracles/mini.csv --labels people.csv`
    """
    existing(study)
    files = named_files(oracle)
    with outcome(as_json):
        from discretion.compare import compare as held
        from discretion.judging import JOURNAL
        from discretion.oracles import by_order as orders_of
        from discretion.oracles import consensus_frame, judgement_rows, oracles_of
        from discretion.sources.oracle import load_oracle
        from discretion.study import load_study
        from discretion.whole import write_whole

        loaded = load_study(study, cluster=cluster)
        folder = Path(study) if Path(study).is_dir() else Path(study).parent
        kept = journal or (
            folder / JOURNAL if (folder / JOURNAL).is_file() and loaded.comparisons is not None else None
        )
        oracles = oracles_of(loaded, folder, files, kept)
        judgements = judgement_rows(oracles, loaded, kept)
        if by_order:
            oracles = [half for one in oracles for half in orders_of(one)]
        table = loaded.table
        people = None if labels is None else load_oracle(labels, table.ids, table.constitution).X
        with progress_bar(quiet or as_json) as progress:
            result = held(
                table, oracles, labels=people, judgements=judgements, replicates=replicates, seed=seed,
                cluster=cluster or loaded.cluster, reference=reference, threads=os.cpu_count() or 1, report=progress,
            )  # fmt: skip
        if consensus is not None:
            best = result.consensus.get("Dawid-Skene", result.consensus["majority"])
            write_whole(consensus, consensus_frame(best, table).write_csv, JournalError)
        if as_json:
            from discretion.document import dumps, records

            frames = ("agreement", "states", "flips", "figures", "supremacy", "corrected", "confusion", "variance")
            made = {name: records(getattr(result, name)) for name in frames}
            about = {"oracles": list(result.oracles), "labelled": result.labelled, "replicates": result.replicates,
                     "seed": result.seed, "unit": result.unit, "warnings": list(result.warnings)}  # fmt: skip
            typer.echo(dumps(about | made))
        else:
            from rich.console import Console

            from discretion.terminal_compare import show_comparison

            show_comparison(result, Console(highlight=False))
            if consensus is not None:
                say(quiet, f"Consensus oracle: {consensus}")
