"""Conclusions: the figures of an audit in sentences, one function a figure, chosen and worded by rules.

What the data cannot tell is said to be untold, never to be equal; so each conclusion rests on the test that fits
its claim, corrected for having been chosen among many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.wording import chance, count, fitting, fraction, listed, named, out_of, share, span

Row = dict[str, Any]

STEADY = 0.8
"""A judge that keeps its verdict less often than this, when the responses swap places, goes by position."""
_LEAST_HABIT = 20  # judgements; on fewer, a habit cannot be told from luck


@dataclass(frozen=True, slots=True)
class Finding:
    """One conclusion of an audit. Every text is plain: whatever displays it has to escape it.

    Parameters
    ----------
    key : str
        "states", "arbitrariness", "supremacy", "position", "length" or "discrepancy".
    title : str
        The conclusion, in one short sentence without a full stop.
    figure : str
        The one number to show large, such as "28.9 %" or "31 of 40".
    text : str
        One to three sentences: what was found, with counts.
    uncertainty : str
        One sentence: intervals, tests, the noise floor.
    caveat : str
        One sentence: what this does not show.
    query : dict of str
        Which cases to read, as the fields of a `discretion.cases.query.Query`.
    """

    key: str
    title: str
    figure: str
    text: str
    uncertainty: str
    caveat: str
    query: dict[str, str]


def states(audit: Audit) -> Finding:
    """Say how often the principles agree, clash or are silent."""
    rows = {r["state"]: r for r in audit.states.iter_rows(named=True)}
    agree, clash, silent = (rows[s] for s in ("consensus", "conflict", "indifference"))
    c, f, i = (r["estimate"] for r in (agree, clash, silent))
    told, low, high, read = c, agree["low"], agree["high"], "consensus"
    alone = len(audit.table.constitution) == 1
    left_open = False
    if i == 1 or (i >= 1 / 3 and i > f and not alone):
        title = f"In {fraction(i)} of the cases no principle has a say"
        if i == 1:
            title = "No principle prefers a response in any case"
        told, low, high, read = i, silent["low"], silent["high"], "indifference"
    elif alone:
        title = f"The principle prefers a response in {fraction(c)} of the cases"
    elif f >= 1 / 3:
        title = f"The principles clash in {fraction(f)} of the cases"
        told, low, high, read = f, clash["low"], clash["high"], "conflict"
    elif f + i >= 0.4:
        title = f"The principles leave {fraction(f + i)} of the cases open: they clash or are silent"
        told, low, high, left_open = f + i, 1 - agree["high"], 1 - agree["low"], True
        read = "conflict" if f >= i else "indifference"
    else:
        title = f"The principles mostly agree: in {fraction(c)} of the cases"
    size = count(agree["n"], "case")
    size = f"only {size}" if agree["n"] < 20 else size
    has, conflicts, lacks = (f"{r['count']:,.0f} ({share(r['estimate'])})" for r in (agree, clash, silent))
    text = (
        f"Of {size} the principle prefers a response in {has} and is silent in {lacks}. Where it is silent, "
        if alone
        else f"Of {size} the principles agree in {has}, clash in {conflicts} and are silent in {lacks}. Where they "
        "clash or are silent, "
    )
    return Finding(
        "states",
        title,
        share(told),
        f"{text}whoever chooses does so at their own discretion.",
        f"{_level(audit)} interval for {share(told)}: {span(low, high)}{_readings(audit, read, left_open)}.",
        "This is how the oracle reads each principle, and it depends on the list: more principles leave fewer cases "
        "silent and make more of them clash.",
        {"state": read},
    )


def _readings(audit: Audit, state: str, left_open: bool) -> str:
    """Say between which ends a share of states moves when the oracle's judgements are read in other ways."""
    if not audit.views.width:
        return ""
    values = audit.views.filter(pl.col("figure") == ("consensus" if left_open else state))["estimate"].to_numpy()
    values = values[~np.isnan(values)]
    values = 1 - values if left_open else values
    if not values.size or values.max() - values.min() < 0.0005:
        return ""
    return f"; other readings of the oracle's judgements give {share(values.min())} to {share(values.max())}"


def arbitrariness(audit: Audit) -> Finding | None:
    """Say how often the reference goes against a consensus, and who clearly does so more or less often."""
    reference = audit.settings.reference
    rates = {r["annotator"]: r for r in rows_of(audit.arbitrariness, rule="consensus") if r["n"] > 0}
    if reference not in rates:
        return None
    own, who = rates[reference], named(reference)
    gaps = _clear_gaps(audit, rates)
    told = {n: f"{share(r['estimate'])}, {r['count']:,.0f} of {r['n']:,.0f}" for n, r in rates.items()}
    above = {b: gap for (a, b), gap in gaps.items() if a == reference and gap["estimate"] < 0}
    beside = above or {b: gap for (a, b), gap in gaps.items() if a == reference}
    other = max(beside, key=lambda name: abs(beside[name]["estimate"]), default=None)

    def title(width: int) -> Iterable[str]:
        does = f"{named(reference, width)} goes against agreeing principles in {share(own['estimate'])}"
        if not own["count"]:
            does = f"{named(reference, width)} never goes against agreeing principles"
        if other is not None:
            yield f"{does}, {named(other, width)} in {share(rates[other]['estimate'])}"
        yield f"{does} of the cases" if own["count"] else does

    text = (
        f"{who} went against the principles in {out_of(own['count'], own['n'], 'case')} where they agree (ties left "
        f"out). {_extremes(reference, rates, gaps, told)}{_by_chance(audit, reference)}"
    )
    doubt = f"{_level(audit)} interval for {who}: {span(own['low'], own['high'])}"
    if other is not None:
        gap = gaps[other, reference]
        low, high = sorted((abs(gap["low"]), abs(gap["high"])))
        doubt += (
            f"; {named(other)} lies {100 * abs(gap['estimate']):.1f} points {'higher' if above else 'lower'} "
            f"({100 * low:.1f}–{100 * high:.1f}), {chance('q', gap['q_value'])}"
        )
    elif any(known(r, "q_value") and reference in (r["annotator"], r["other"]) for r in rows_of(audit.differences)):
        doubt += "; nobody else's rate lies clearly above or below it"
    side = "against-consensus" if own["count"] else "with-consensus"
    return Finding(
        "arbitrariness",
        fitting(title),
        share(own["estimate"]),
        text,
        f"{doubt}.",
        "It does not say who is wrong: noise in the labels, a missing principle and a misread one look the same.",
        {"state": "consensus", "annotator": reference, "side": side},
    )


def _clear_gaps(audit: Audit, rates: dict[str, Row]) -> dict[tuple[str, str], Row]:
    """Return the differences in arbitrariness that interval and test both tell from 0, each in both directions."""
    clear: dict[tuple[str, str], Row] = {}
    for r in rows_of(audit.differences):
        a, b = r["annotator"], r["other"]
        if not (a in rates and b in rates and known(r, "estimate", "low", "high", "q_value")):
            continue
        if r["q_value"] < _alpha(audit) and (r["low"] > 0 or r["high"] < 0) and r["estimate"]:
            clear[a, b] = r
            clear[b, a] = {**r, "estimate": -r["estimate"], "low": -r["high"], "high": -r["low"]}
    return clear


def _extremes(reference: str, rates: dict[str, Row], gaps: dict[tuple[str, str], Row], told: dict[str, str]) -> str:
    """Name who goes against a consensus most and least, where the two are clearly apart."""
    if not gaps:
        return ""
    order = sorted(rates, key=lambda name: rates[name]["estimate"])
    least, most = order[0], order[-1]
    if (most, least) not in gaps:
        most, least = max(gaps, key=lambda pair: gaps[pair]["estimate"])
        return f"{named(most)} ({told[most]}) does so more often than {named(least)} ({told[least]}). "
    if reference == most:
        return f"Nobody does so more often; {named(least)} does so least ({told[least]}). "
    if reference == least:
        return f"Nobody does so less often; {named(most)} does so most ({told[most]}). "
    return f"{named(most)} does so most ({told[most]}) and {named(least)} least ({told[least]}). "


def _by_chance(audit: Audit, reference: str) -> str:
    """Say what chance would give. Labels that are all alike shuffle to themselves: there, a coin is the measure."""
    rows = rows_of(audit.baselines, baseline="shuffled annotator", figure="arbitrariness", annotator=reference)
    if rows and known(rows[0], "mean", "sd") and rows[0]["sd"] > 1e-9:
        return f"{named(reference)}'s own labels in random order would give {share(rows[0]['mean'])}."
    return "Tossing a coin would give 50 %."


def supremacy(audit: Audit) -> Finding | None:
    """Say which of two principles the reference follows when they clash: the clearest pair, if one is clear."""
    reference = audit.settings.reference
    if not audit.supremacy.width:
        return None
    mine = audit.supremacy.filter((pl.col("annotator") == reference) & (pl.col("n") > 0))
    tied = (pl.col("estimate") == 0.5) & (pl.col("principle") < pl.col("over"))
    mine = mine.filter((pl.col("estimate") > 0.5) | tied)
    if not mine.height:
        return None
    z = NormalDist().inv_cdf(0.5 + audit.settings.level / 2)
    estimate, low = mine["estimate"].to_numpy(), np.nan_to_num(mine["low"].to_numpy())
    # Wilson's bound L of a share s solves (s - L)² = z² L (1 - L) / m. So it tells the size m, that of clusters too.
    sizes = np.maximum(np.rint(z**2 * low * (1 - low) / (estimate - low) ** 2), 1).astype(np.int64)
    lucky = sum(_looks_settled(int(m), z) for m in sizes)
    best, m = mine.row(int(low.argmax()), named=True), int(sizes[low.argmax()])
    pairs, settled = mine.height, int((low > 0.5).sum())
    p = min(1.0, pairs * 2 * _heads(round(best["estimate"] * m), m))
    clear = bool(best["low"] > 0.5 and p < _alpha(audit))
    a, b = best["principle"], best["over"]

    def title(width: int) -> Iterable[str]:
        who, one, other = named(reference, width), named(a, width), named(b, width)
        if clear:
            yield f"When “{one}” and “{other}” clash, {who} follows “{one}”"
            yield f"{who} follows “{one}” over “{other}”"
        else:
            yield f"When principles clash, {who} clearly favours no principle"

    won = out_of(best["count"], best["n"], "such case")
    text = (
        f"{named(reference)} sided with “{named(a)}” in {won}."
        if clear
        else f"The clearest pair is “{named(a)}” over “{named(b)}”, followed in {won}."
    )
    text += (
        f" Of {count(pairs, 'pair')} of principles that clash, {settled:,} {'is' if settled == 1 else 'are'} settled "
        f"(the interval lies beyond one half).{_first_and_last(audit) if clear else ''}"
    )
    return Finding(
        "supremacy",
        fitting(title),
        f"{best['count']:,.0f} of {best['n']:,.0f}" if clear else f"{settled:,} of {pairs:,}",
        text,
        f"{_level(audit)} interval for this pair {span(best['low'], best['high'])}"
        + (f", {chance('p', p)} corrected for the choice among {pairs:,} pairs" if pairs > 1 else f", {chance('p', p)}")
        + f"; if coins decided, {f'about {lucky:,.0f}' if round(lucky) else 'fewer than one'} would look settled.",
        "It says what is followed, not why; principles that speak together share the credit.",
        {"principle": a, "over": b, "annotator": reference, **({"side": "with"} if clear else {})},
    )


@cache
def _looks_settled(m: int, z: float) -> float:
    """Return how often m tosses of a coin look settled: with few tosses by no means at the nominal level."""
    return 2 * _heads(math.floor((m + z * math.sqrt(m)) / 2) + 1, m)


@cache
def _heads(k: int, m: int) -> float:
    """Return the probability of k heads or more in m tosses."""
    if m > 200:
        return 0.5 * math.erfc((k - 0.5 - m / 2) / math.sqrt(m / 2))
    return float(sum(math.comb(m, j) for j in range(k, m + 1)) / 2**m)


def _first_and_last(audit: Audit) -> str:
    """Name the first and the last principle of the reference's ranking, where no other shares the place."""
    rows = [r for r in rows_of(audit.priority, annotator=audit.settings.reference) if known(r, "rank")]
    rows.sort(key=lambda r: r["rank"])
    if len(rows) < 3 or rows[0]["rank"] == rows[1]["rank"] or rows[-1]["rank"] == rows[-2]["rank"]:
        return ""
    ends = [
        f"“{named(r['principle'])}” {place}"
        + (f" ({r['rank_low']:.0f}–{r['rank_high']:.0f})" if known(r, "rank_low", "rank_high") else "")
        for r, place in ((rows[0], "ranks first"), (rows[-1], "last"))
    ]
    return f" Over all clashes {ends[0]} and {ends[1]} of {len(rows):,}."


def discrepancy(audit: Audit) -> Finding | None:
    """Say whose ranking of the principles lies farthest from the reference's, or that no one's can be told from it."""
    reference = audit.settings.reference
    tested = [r for r in rows_of(audit.discrepancy) if known(r, "estimate", "p_value", "q_value")]
    rows = [
        {**r, "who": r["other"] if r["annotator"] == reference else r["annotator"]}
        for r in tested
        if reference in (r["annotator"], r["other"])
    ]
    if not rows:
        return None
    rows.sort(key=lambda r: -r["estimate"])
    apart = [r for r in rows if r["q_value"] < _alpha(audit)]
    unlike = [r for r in rows if r["q_value"] >= _alpha(audit)]
    top, ref = (apart or unlike)[0], named(reference)
    # Labels of two that mirror each other, swapped, mirror each other still: there the test sees less than resampling.
    open_ = not apart and known(top, "low", "floor") and top["low"] > top["floor"]
    verdict = (
        "more than chance explains"
        if apart
        else "the test does not rule out chance"
        if open_
        else "chance may explain it"
    )

    def title(width: int) -> Iterable[str]:
        who, mine = named(top["who"], width), named(reference, width)
        if apart:
            yield f"{who} ranks the principles {'least like' if rows[1:] else 'unlike'} {mine}"
        elif open_:
            yield f"{who} seems to rank the principles unlike {mine}, but the test leaves it open"
        elif rows[1:]:
            yield f"No annotator's ranking of the principles can be told from {mine}'s"
        else:
            yield f"{who}'s ranking of the principles cannot be told from {mine}'s"

    few = "only " if top["pairs"] < 20 else ""
    text = (
        f"{named(top['who'])} orders {share(top['estimate'])} of {few}{count(top['pairs'], 'pair')} of principles "
        f"differently from {ref}: {verdict}."
    )
    if apart[1:]:
        also = [f"{named(r['who'])} ({share(r['estimate'])})" for r in apart[1:]]
        text += f" So {'does' if len(also) == 1 else 'do'} {listed(also, 3)}."
    if unlike:
        reach = max((r for r in unlike if known(r, "high")), key=lambda r: r["high"], default=None)
        rest = named(unlike[0]["who"]) if len(unlike) == 1 else f"{len(unlike):,} annotators"
        text += f" {rest} cannot be told from {ref}, which" if apart else " That"
        text += " is no proof of likeness"
        if reach is not None:
            it = "it" if apart and len(unlike) == 1 else named(reach["who"])
            text += f": {it} may differ in up to {share(reach['high'])} of pairs"
        text += "."
    doubt = f"{_level(audit)} interval {span(top['low'], top['high'])}; " if known(top, "low", "high") else ""
    if known(top, "floor"):
        doubt += f"random halves of one annotator's own labels already differ by {share(top['floor'])}; "
    doubt += chance("p", top["p_value"])
    if len(tested) > 1:
        doubt += f", {chance('q', top['q_value'])} corrected for {count(len(tested), 'pair')} of annotators"
    by_position = any(r["who"] == top["who"] for r in unsteady(audit))
    return Finding(
        "discrepancy",
        fitting(title),
        share(top["estimate"]) if apart or open_ or not rows[1:] else f"0 of {len(rows):,}",
        text,
        f"{doubt}.",
        f"{named(top['who'])} goes by the position of the responses, so this need not be a matter of principle."
        if by_position
        else "It compares rankings drawn from clashes, not single choices, and does not say which ranking is better.",
        {"state": "conflict", "annotator": top["who"], "other": reference, "side": "differ"},
    )


def unsteady(audit: Audit) -> list[Row]:
    """Return who clearly keeps its verdict too seldom when the responses swap places, the oracle first."""
    rows = [r for r in habit(audit, "same verdict in both orders").values() if r["high"] < STEADY]
    return sorted(rows, key=lambda r: (r["who"] != "oracle", r["estimate"]))


def habit(audit: Audit, what: str) -> dict[str, Row]:
    """Return a habit of the oracle and of each annotator, where there are enough judgements.

    The table of habits knows the oracle by name alone: an annotator of the same name leaves both unsaid.
    """
    rows = {r["who"]: r for r in rows_of(audit.habits, habit=what) if r["n"] >= _LEAST_HABIT}
    names = [n for n in ("oracle", *audit.annotators) if n != "oracle" or n not in audit.annotators]
    return {name: rows[name] for name in names if name in rows}


def rows_of(frame: pl.DataFrame, **equal: str) -> list[Row]:
    """Return the rows with these values; an audit without annotators has frames without columns."""
    if not frame.width:
        return []
    return frame.filter([pl.col(k) == v for k, v in equal.items()]).to_dicts() if equal else frame.to_dicts()


def known(row: Row, *names: str) -> bool:
    """Whether figures of a row are numbers: neither missing nor NaN nor infinite."""
    return all(row[n] is not None and math.isfinite(row[n]) for n in names)


def _alpha(audit: Audit) -> float:
    return round(1 - audit.settings.level, 9)


def _level(audit: Audit) -> str:
    return f"{100 * audit.settings.level:g} %"
