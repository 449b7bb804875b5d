"""The verbs of hedging: hedge POOL, hedge sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from discretion.cli_app import JsonFlag, Quiet, Seed, app
from discretion.console import existing, outcome, progress_bar, say


class _TuneByDefault(TyperGroup):
    """`discretion hedge POOL` is `discretion hedge tune POOL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["tune", *args]
        return super().parse_args(ctx, args)


hedge_app = typer.Typer(
    cls=_TuneByDefault, no_args_is_help=True, rich_markup_mode=None,
    help="Best-of-n on an imperfect reward gets hacked: say where to stop. `discretion hedge POOL` tunes.",
)  # fmt: skip
app.add_typer(hedge_app, name="hedge")


@hedge_app.command()
def tune(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="JSONL, CSV or Parquet: a row a candidate, or a prompt.")],
    proxy: Annotated[str | None, typer.Option(help="Column of the proxy; -COLUMN turns it round.")] = None,
    true: Annotated[str | None, typer.Option(help="Column of the true reward.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Column of the prompt's id.")] = None,
    format: Annotated[str | None, typer.Option("--format", help="A public layout: boinf, judge-goodhart.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Only the first so many of each prompt.", min=2)] = None,
    most: Annotated[int | None, typer.Option(help="Largest n. Default: half of the smallest pool.", min=2)] = None,
    recalibrate: Annotated[bool, typer.Option(help="Select by the reward at the proxy's quantile instead.")] = False,
    soft: Annotated[bool, typer.Option(help="Tune soft best-of-n too.")] = True,
    votes: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="Columns with principle votes begin with this: tune for discretion too."),
    ] = None,
    audit: Annotated[Path | None, typer.Option(help="A saved audit, whose annotator's ranking is held to.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Of that audit. Default: its reference.")] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=0)] = 1000,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for hedge.json and hedge.html. Default: hedge/NAME.")
    ] = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Say where to stop optimising a proxy, how sure that is, and what else would serve.

    Example: `discretion hedge answers.jsonl --proxy judge_score --true correct`
    """
    existing(pool, "POOL")
    with outcome(as_json):
        from discretion.hedge.document import document, write_document
        from discretion.hedge.pool import Pool
        from discretion.hedge.tune import tune as tuned_on
        from discretion.report.hedge_page import write
        from discretion.sources.pools import load_pool
        from discretion.terminal_hedge import show_tuned

        rows = load_pool(pool, format=format, prompt=prompt, proxy=proxy, true=true, votes=votes)
        if candidates is not None:
            rows = rows.first(candidates)
        made = Pool.of(rows.proxy, rows.true, rows.prompts, rows.names)
        with progress_bar(quiet or as_json) as progress:
            found = tuned_on(
                made, most=most, recalibrate=recalibrate, soft=soft, replicates=replicates, seed=seed, report=progress
            )
            along = None
            if rows.votes:
                progress("discretion along n", 0.97)
                along = _discretion(made, rows.votes, audit, annotator, found.largest, replicates, seed)
            name = Path(pool).name.split(".")[0]
            folder = out if out is not None else Path("hedge") / name
            about = document(found, name, rows.proxy_name, rows.true_name, along)
            write_document(folder / "hedge.json", about)
            page = write(
                found, folder / "hedge.html", name=name, proxy=rows.proxy_name, true=rows.true_name, along=along
            )
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps(about))
            return
        from rich.console import Console

        console = Console(highlight=False)
        show_tuned(found, name, rows.proxy_name, rows.true_name, console)
        if along is not None:
            from discretion.terminal_hedge import show_along

            show_along(along, console)
        say(quiet, f"\nReport: {page}\nFigures: {folder / 'hedge.json'}")


def _discretion(
    pool: Any,
    votes: dict[str, Any],
    audit: Path | None,
    annotator: str | None,
    largest: int,
    replicates: int,
    seed: int,
) -> Any:
    from discretion.hedge.discretion import along_n, ranking_of

    reference = None
    if audit is not None:
        from discretion.saved import load

        reference = ranking_of(load(audit), annotator, list(votes))
    return along_n(pool, votes, most=largest, reference=reference, replicates=replicates, seed=seed)


@hedge_app.command()
def sample(
    prompts: Annotated[str, typer.Argument(metavar="PROMPTS", help="JSONL, CSV or Parquet with prompt, perhaps id.")],
    policy: Annotated[str, typer.Option(metavar="KIND:MODEL", help="chat:MODEL[@URL] or local:FOLDER.")],
    proxy: Annotated[str, typer.Option(metavar="KIND:MODEL", help="reward:FOLDER, or length.")],
    true: Annotated[str, typer.Option(metavar="KIND:MODEL", help="A better reward: reward:FOLDER.")] = "",
    n: Annotated[int, typer.Option("-n", help="Candidates a prompt.", min=1)] = 16,
    out: Annotated[Path, typer.Option("--out", "-o", help="The pool; what it has is not made again.")] = Path(
        "pool.jsonl"
    ),
    max_tokens: Annotated[int, typer.Option(help="Of a candidate.", min=1)] = 512,
    temperature: Annotated[float, typer.Option(min=0)] = 1.0,
    at_once: Annotated[int, typer.Option(help="Calls in flight at the most.", min=1)] = 64,
    key_variable: Annotated[str, typer.Option(help="Environment variable with the key.")] = "OPENAI_API_KEY",
    device: Annotated[str, typer.Option(help="For models on this machine: cpu, cuda, cuda:1.")] = "",
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Make a pool: generate candidates, score them by the proxy and by the true reward. Run it again to go on.

    Example: `discretion hedge sample prompts.jsonl --policy chat:gpt-4o-mini --proxy reward:org/model`
    """
    existing(prompts, "PROMPTS")
    with outcome(as_json):
        from discretion.hedge.generate import open_policy, open_rewards
        from discretion.hedge.sampling import sample_pool
        from discretion.sources.prompts import load_prompts

        given = load_prompts(prompts)
        speaks = open_policy(
            policy,
            max_tokens=max_tokens,
            temperature=temperature,
            at_once=at_once,
            key_variable=key_variable,
            device=device,
        )
        rewards = open_rewards({"proxy": proxy, **({"true": true} if true else {})}, device)
        with progress_bar(quiet or as_json) as progress:
            made = sample_pool(given, speaks, rewards, out, n=n, seed=seed, report=progress)
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps({"pool": str(out), **made}))
        else:
            say(
                quiet,
                f"{made['made']:,} candidates made, {made['known']:,} were there; {made['failed']:,} failed: {out}",
            )
            if true:
                say(quiet, f"Next: discretion hedge {out}")
