"""The verbs that train: transfer, lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discretion.cli_app import JsonFlag, PriorText, Quiet, Replicates, Seed, Threads, app
from discretion.console import existing, outcome, progress_bar, read_prior, say


@app.command()
def transfer(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study with texts, an oracle and an annotator.")],
    base: Annotated[str, typer.Option(metavar="MODEL", help="The model to train: a folder, or a name on the hub.")],
    annotator: Annotated[
        str | None, typer.Option(help="Whose preferences are trained on. Default: the study's reference, or human.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training runs of each station; more can be added later.", min=1)] = 3,
    method: Annotated[str, typer.Option(help="Of the policy: dpo, rloo or grpo.")] = "dpo",
    labels: Annotated[str, typer.Option(help="Whose choices DPO sees: annotator, or reward.")] = "annotator",
    discretion: Annotated[
        str | None,
        typer.Option(metavar="KIND:WEIGHT", help="Add a discretion loss: choice:1, supremacy:0.5, priority:1."),
    ] = None,
    hierarchy: Annotated[
        str, typer.Option(help="Whose hierarchy the loss holds DPO to: annotator, or reward.")
    ] = "annotator",
    smoothing: Annotated[float, typer.Option(help="Share of preferences taken to be noise.")] = 0.0,
    conflicts: Annotated[float, typer.Option(help="What a comparison in conflict weighs, beside 1.")] = 1.0,
    share: Annotated[float, typer.Option(help="Of the comparisons, to train on.")] = 0.8,
    cluster: Annotated[str, typer.Option(help="What is split and resampled as a whole: an attribute.")] = "prompt",
    epochs: Annotated[float, typer.Option(help="Times that a comparison is seen.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Comparisons on the device at a time.", min=1)] = 8,
    accumulate: Annotated[int, typer.Option(help="Batches to a step.", min=1)] = 1,
    rate: Annotated[float, typer.Option(help="Learning rate of the reward model.")] = 1e-4,
    policy_rate: Annotated[float | None, typer.Option(help="Of the policy. Default: the same.")] = None,
    max_length: Annotated[int, typer.Option(help="Tokens of a prompt and a response.", min=8)] = 1024,
    lora: Annotated[int, typer.Option(help="Rank of low-rank changes; 0 trains all weights.", min=0)] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Mixed precision.")] = False,
    beta: Annotated[
        float | None, typer.Option(help="What going far from the base costs. Default: 0.1 (dpo), 0.05 (rloo, grpo).")
    ] = None,
    samples: Annotated[int, typer.Option(help="Online: responses to a prompt.", min=2)] = 4,
    new_tokens: Annotated[int, typer.Option(help="Tokens of a response that a policy writes.", min=1)] = 64,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 100,
    judge: Annotated[
        str, typer.Option(metavar="KIND:MODEL", help="An oracle for what policies write: chat:gpt-4o, local:FOLDER.")
    ] = "",
    answers: Annotated[
        int | None, typer.Option(help="With --judge: held-out prompts that are answered at the most.", min=1)
    ] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable with the judge's key.")] = "OPENAI_API_KEY",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0. Default: cuda where there is one.")] = "",
    prior: PriorText = None,
    replicates: Replicates = 1000,
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of models, scores and audit. Default: transfer/NAME.")
    ] = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Train a reward model and a policy on an annotator's preferences; say what is lost of its discretion.

    What the folder has is not done again: stop with Ctrl-C, run it again, and it goes on.

    Example: `discretion transfer mystudy --base Qwen/Qwen3-0.6B --lora 16 --bf16 --discretion choice:1`
    """
    existing(study)
    given_prior = read_prior(prior)
    kind, weight = _loss(discretion)
    with outcome(as_json):
        from dataclasses import replace

        from discretion.document import dumps
        from discretion.errors import DataError, StudyError
        from discretion.judges.spec import Options, Spec
        from discretion.study import load_study
        from discretion.training.design import Design, annotator_of
        from discretion.training.fitting import Fit
        from discretion.training.transfer import run_transfer

        try:
            fit = Fit(epochs=epochs, batch=batch, accumulate=accumulate, learning_rate=rate, max_length=max_length,
                      lora_rank=lora, bf16=bf16, save_every=save_every)  # fmt: skip
            design = Design(
                "", seeds, method, labels, fit, fit if policy_rate is None else replace(fit, learning_rate=policy_rate),
                beta, samples, new_tokens, kind, weight, smoothing, hierarchy, conflicts, share, cluster, answers, seed,
            )  # fmt: skip
            if judge:
                Spec.parse(judge)
        except (StudyError, DataError) as error:  # of the flags alone: wrong use
            raise typer.BadParameter(str(error)) from error
        loaded = load_study(study)
        design = replace(design, annotator=annotator_of(loaded, annotator))
        folder = out if out is not None else Path("transfer") / Path(study).resolve().name.split(".")[0]
        options = Options(key_variable=key_variable, device=device)
        try:
            with progress_bar(quiet or as_json) as progress:
                found = run_transfer(
                    loaded, base, folder, design, judge=judge, options=options, replicates=replicates,
                    prior=given_prior, threads=threads, report=progress,
                )  # fmt: skip
        except KeyboardInterrupt:
            message = f"Interrupted; what is finished is kept in {folder}. Run the same command to go on."
            if as_json:
                typer.echo(dumps({"error": {"type": "interrupted", "message": message}}))
            say(quiet, message)
            raise typer.Exit(1) from None
        if as_json:
            typer.echo(dumps(found.document()))
            return
        from rich.console import Console

        from discretion.terminal_transfer import show_transfer

        show_transfer(found, Console(highlight=False))
        say(quiet, f"\nFigures: {folder / 'transfer.json'}\nAudit of all stations: {found.audit}")
        say(quiet, f"Next: discretion diagnose {found.audit}")


def _loss(text: str | None) -> tuple[str, float]:
    """Read KIND:WEIGHT; wrong use where it is neither."""
    if text is None:
        return "", 1.0
    kind, _, weight = text.partition(":")
    try:
        return kind, float(weight or 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no loss; write choice:1.", param_hint="--discretion") from error


@app.command()
def lab(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of models, figures and report.")] = Path("lab"),
    seeds: Annotated[int, typer.Option(help="Worlds with models of their own; more can be added later.", min=1)] = 5,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATION", help="A station, or a pattern: 'rerank*'. Repeat for more. DPO is always among them."
        ),
    ] = None,
    comparisons: Annotated[int, typer.Option(help="That are trained on, in each world.", min=100)] = 2048,
    threads: Threads = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Train small models in worlds whose truth is known, and say what is lost of discretion and what keeps it.

    What the folder has is not done again: stop with Ctrl-C, run it again, and it goes on.

    Example: `discretion lab --seeds 5 --only "rerank*" --only "reward model"`
    """
    with outcome(as_json):
        from discretion.errors import DataError
        from discretion.training.lab_design import PLAIN, Settings, matching
        from discretion.training.lab_report import said, write
        from discretion.training.laboratory import run_laboratory

        settings = Settings(comparisons=comparisons)
        try:
            wanted = [station.name for station in matching([PLAIN, *only] if only else ["*"], settings)]
        except DataError as error:
            raise typer.BadParameter(str(error), param_hint="--only") from error
        if threads is not None:
            from discretion.training.world_model import use_threads

            use_threads(threads)
        total = seeds * len(wanted)
        done = 0

        with progress_bar(quiet or as_json) as progress:

            def told(seed: int, station: str, there: bool) -> None:
                nonlocal done
                done += 1
                progress(f"world {seed}: {station}", done / total)

            found = run_laboratory(out, seeds, settings=settings, only=wanted, report=told)
            page = write(found, out / "report.html")
        summary = found.chosen(PLAIN).summary(PLAIN)
        if as_json:
            from discretion.document import dumps, records

            typer.echo(dumps({"report": str(page), "seeds": seeds, "stations": records(summary)}))
        else:
            headline, sentences, _ = said(summary)
            for text in (headline, *sentences):
                say(quiet, text)
            say(quiet, f"Report: {page}")
