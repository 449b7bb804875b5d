"""The rows that figures are drawn from: an audit's frames with places, marks, and what to ask for behind each cell.

The columns state, principle, over, annotator, other and side are those of a query for cases.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable

import polars as pl

from discretion.audit import Audit
from discretion.metrics.counts import RULES
from discretion.terminal import plain

MOST_PRINCIPLES = 40
"""Principles in a heat map: those with most conflicts; 40 x 40 cells are as many as one can read."""
MOST_ANNOTATORS = 24
"""Annotators in a figure: the reference and the first ones."""

_BAND = pl.col("status").replace_strict({"not comparable": 1, "no conflict": 2}, default=0, return_dtype=pl.Int64)
"""0 for what has a place in the ranking. What is not comparable has a rank among some principles only."""

_SIDES = {
    "agree": "with",
    "disagree": "against",
    "principle indifferent": "principle-silent",
    "annotator indifferent": "indifferent",
}


def annotators(audit: Audit) -> list[str]:
    """Return the annotators that figures show, the reference first."""
    reference = audit.settings.reference
    rest = [n for n in audit.annotators if n != reference]
    return ([reference] if reference in audit.annotators else []) + rest[: MOST_ANNOTATORS - 1]


def plain_names(names: Iterable[str]) -> list[str]:
    """Return names as charts show them: a chart's text cannot mark what is hidden in it."""
    return [plain(n) for n in names]


def states_rows(audit: Audit) -> pl.DataFrame:
    """Return the agreement states: state, name, estimate, low, high, count, n."""
    return audit.states.select(
        pl.col("state").replace("consensus of several", "several"),
        pl.col("state").replace("consensus of several", "… of two or more").alias("name"),
        "estimate", "low", "high", "count", "n",
    )  # fmt: skip


def responses_rows(audit: Audit) -> pl.DataFrame:
    """Return how annotators stand to principles: annotator, principle, side, estimate, count, n, voted, place.

    `voted` is the share of agreement where both prefer a response; `place` orders the answers in a bar.
    """
    if not audit.responses.width:
        return pl.DataFrame()
    sides = list(_SIDES)
    agree, disagree = (
        pl.col("estimate").filter(pl.col("response") == r).first().over("annotator", "principle") for r in sides[:2]
    )
    return (
        audit.responses.filter(pl.col("annotator").is_in(annotators(audit)))
        .with_columns((agree / (agree + disagree)).alias("voted"))
        .select(
            "annotator", "principle",
            pl.col("response").replace_strict(_SIDES).alias("side"),
            "estimate", "low", "high", "count", "n", "voted",
            # The order in a bar: agreement from the left, disagreement from the right.
            pl.col("response").replace_strict(dict(zip(sides, (0, 3, 2, 1), strict=True))).alias("place"),
        )
    )  # fmt: skip


def arbitrariness_rows(audit: Audit) -> pl.DataFrame:
    """Return arbitrariness: annotator, rule, state, side, estimate, low, high, count, n, shuffled.

    `shuffled` is what the annotator's labels give when they are shuffled; null where that says nothing: labels that
    are all the same (the preferred response always stands first) stay what they were.
    """
    if not audit.arbitrariness.width:
        return pl.DataFrame()
    null = (
        audit.baselines.filter(
            (pl.col("baseline") == "shuffled annotator") & (pl.col("figure") == "arbitrariness") & (pl.col("sd") > 1e-9)
        ).select("annotator", pl.col("mean").alias("shuffled"))
        if audit.baselines.height
        else None
    )
    frame = audit.arbitrariness
    if null is None:
        frame = frame.with_columns(pl.lit(None, pl.Float64).alias("shuffled"))
    else:
        frame = frame.join(null, on="annotator", how="left", maintain_order="left")
    return frame.filter(pl.col("annotator").is_in(annotators(audit))).select(
        "annotator",
        pl.col("rule").replace_strict({RULES[0]: "any consensus", RULES[1]: "of two or more principles"}),
        pl.col("rule").replace_strict({RULES[0]: "consensus", RULES[1]: "several"}).alias("state"),
        pl.lit("against-consensus").alias("side"),
        "estimate", "low", "high", "count", "n",
        pl.when(pl.col("rule") == RULES[0]).then("shuffled"),
    )  # fmt: skip


def ranked_principles(audit: Audit, annotator: str) -> list[str]:
    """Return all principles by an annotator's priority, those without one last, in the constitution's order."""
    frame = audit.priority.filter(pl.col("annotator") == annotator).with_row_index("at")
    return frame.sort(_BAND, pl.col("rank").fill_nan(1e9), "at")["principle"].to_list()


def shown_principles(audit: Audit) -> list[str]:
    """Return the principles that heat maps show, in the constitution's order."""
    names = list(audit.table.constitution.names)
    if len(names) <= MOST_PRINCIPLES or not audit.supremacy.width:
        return names
    games = audit.supremacy.group_by("principle").agg(pl.col("n").sum()).sort("n", descending=True, maintain_order=True)
    kept = set(games["principle"].head(MOST_PRINCIPLES))
    return [n for n in names if n in kept]


def supremacy_rows(audit: Audit, annotator: str) -> pl.DataFrame:
    """Return an annotator's supremacies: principle, over, estimate, low, high, count, n, settled, four places.

    Pairs without a conflict have no row. `row` and `column` are places by the annotator's priority, `row_given` and
    `column_given` those in the constitution. `settled`: the interval leaves out one half.
    """
    kept = shown_principles(audit)
    places = {p: k + 1 for k, p in enumerate(p for p in ranked_principles(audit, annotator) if p in set(kept))}
    given = {p: k + 1 for k, p in enumerate(kept)}
    frame = audit.supremacy.filter(
        (pl.col("annotator") == annotator)
        & (pl.col("n") > 0)
        & pl.col("principle").is_in(kept)
        & pl.col("over").is_in(kept)
    )
    return frame.select(
        "principle", "over", "annotator",
        pl.lit("decided").alias("side"),
        "estimate", "low", "high",
        pl.col("count", "n").cast(pl.Int64),
        ((pl.col("low") > 0.5) | (pl.col("high") < 0.5)).alias("settled"),
        pl.col("principle").replace_strict(places, return_dtype=pl.Int64).alias("row"),
        pl.col("over").replace_strict(places, return_dtype=pl.Int64).alias("column"),
        pl.col("principle").replace_strict(given, return_dtype=pl.Int64).alias("row_given"),
        pl.col("over").replace_strict(given, return_dtype=pl.Int64).alias("column_given"),
    )  # fmt: skip


def priority_rows(audit: Audit) -> pl.DataFrame:
    """Return priorities: annotator, principle, status, rank, …, at, slot, slot_low, slot_high, mover, side, state.

    `at` is the annotator's place from 0. Slots go from 1 down, one for each principle, also where ranks are equal;
    what has no rank stands below all that have. `mover` numbers from 1 the principles whose rank differs most
    between annotators, at most three, and is 0 for others.
    """
    names = annotators(audit)
    kept = shown_principles(audit)
    frame = audit.priority.filter(pl.col("annotator").is_in(names) & pl.col("principle").is_in(kept))
    movers = _movers(frame)
    ranks = ("rank", "rank_low", "rank_high")
    none = pl.col("rank").is_null()
    frame = (
        frame.with_columns(pl.when(_BAND == 0).then(pl.col(*ranks).fill_nan(None)))
        .with_columns(
            pl.col("annotator").replace_strict({n: k for k, n in enumerate(names)}, return_dtype=pl.Int64).alias("at"),
            pl.col("principle")
            .replace_strict({n: k for k, n in enumerate(kept)}, return_dtype=pl.Int64)
            .alias("given"),
        )
        .sort("at", _BAND, "rank", "given", nulls_last=True)
    )
    slot = pl.int_range(1, pl.len() + 1).over("at") + pl.when(none).then(
        len(kept) + 1 - (~none).sum().over("at")
    ).otherwise(0)
    return frame.with_columns(slot.alias("slot")).select(
        "annotator", "principle", "status", "rank", "rank_low", "rank_high", "games", "at", "slot",
        pl.when(pl.col("logit").is_finite()).then("logit"),
        (pl.col("slot") + pl.col("rank_low") - pl.col("rank")).alias("slot_low"),
        (pl.col("slot") + pl.col("rank_high") - pl.col("rank")).alias("slot_high"),
        pl.col("principle").replace_strict(movers, default=0, return_dtype=pl.Int64).alias("mover"),
        pl.lit("decided").alias("side"),
        pl.lit("conflict").alias("state"),
    )  # fmt: skip


def slot_names(rows: pl.DataFrame) -> list[str]:
    """Return what to write beside each slot: rank and name of the first annotator's principles, "" for none."""
    first = rows.filter(pl.col("at") == 0)
    names = {r["slot"]: r for r in first.iter_rows(named=True)}
    marks = {"not comparable": "∥", "no conflict": "–"}
    last = int(rows["slot"].max() or 0)  # type: ignore[arg-type]
    return [
        f"{names[k]['principle']}  {marks.get(names[k]['status']) or format(names[k]['rank'], '.0f')}"
        if k in names
        else ""
        for k in range(1, last + 1)
    ]


def _movers(frame: pl.DataFrame) -> dict[str, int]:
    """Return from 1 up the principles whose ranks lie furthest apart; first those whose intervals do not overlap."""
    ranks = pl.col("rank", "rank_low", "rank_high").fill_nan(None)
    apart = (
        frame.filter(_BAND == 0)
        .with_columns(ranks)
        .group_by("principle", maintain_order=True)
        .agg(
            (pl.col("rank").max() - pl.col("rank").min()).alias("ranks"),
            # Beyond both intervals, where there are intervals; negative where they overlap.
            (pl.col("rank_low").max() - pl.col("rank_high").min()).alias("clear"),
        )
    )
    apart = apart.filter(pl.col("ranks") >= 2).sort(
        pl.col("clear").fill_null(0) > 0, "ranks", descending=True, maintain_order=True
    )
    return {name: k + 1 for k, name in enumerate(apart["principle"].head(3))}


def discrepancy_rows(audit: Audit) -> pl.DataFrame:
    """Return discrepancies below the diagonal and noise floors on it, with the places of both annotators."""
    names = annotators(audit)
    places = {n: k for k, n in enumerate(names)}
    schema = {
        "annotator": pl.String, "other": pl.String, "kind": pl.String, "estimate": pl.Float64, "low": pl.Float64,
        "high": pl.Float64, "bootstrap_mean": pl.Float64, "se": pl.Float64, "floor": pl.Float64, "pairs": pl.Float64,
        "p_value": pl.Float64, "q_value": pl.Float64, "side": pl.String, "state": pl.String,
        "row": pl.Int64, "column": pl.Int64,
    }  # fmt: skip
    rows = []
    for r in audit.discrepancy.iter_rows(named=True) if audit.discrepancy.width else ():
        if r["annotator"] in places and r["other"] in places:
            i, j = sorted((places[r["annotator"]], places[r["other"]]))
            both = {"annotator": names[j], "other": names[i], "row": j, "column": i}
            asked = {"kind": "between", "side": "differ", "state": "conflict"}
            rows.append({k: r[k] for k in schema if k in r} | both | asked)
    for r in audit.floor.iter_rows(named=True) if audit.floor.width else ():
        if r["annotator"] in places and r["mean"] is not None and not math.isnan(r["mean"]):
            k = places[r["annotator"]]
            own = {
                "annotator": r["annotator"],
                "other": "",
                "row": k,
                "column": k,
                "kind": "floor",
                "side": "",
                "state": "",
            }
            rows.append(own | {"estimate": r["mean"], "low": r["low"], "high": r["high"]})
    return pl.DataFrame(rows, schema=schema)


def most_vocal_first(audit: Audit, annotator: str) -> list[str]:
    """Return the principles by how often they prefer a response where an annotator was asked too."""
    frame = responses_rows(audit).filter((pl.col("annotator") == annotator) & pl.col("side").is_in(["with", "against"]))
    votes = frame.group_by("principle", maintain_order=True).agg(pl.col("estimate").fill_nan(0).sum())
    return votes.sort("estimate", descending=True, maintain_order=True)["principle"].to_list()


def slug(text: str) -> str:
    """Return a text as part of a file's name: lower-case letters, digits, _ and -, unlike for unlike texts."""
    short = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:40]
    if short and short == text:
        return short
    return f"{short or 'x'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
