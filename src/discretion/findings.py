"""Findings: what an audit says to somebody who reads nothing else of it.

The conclusions in the order of their weight, with the habits of judges that could undo them, and a few sentences on
what was audited.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from discretion.audit import Audit
from discretion.conclusions import (
    Finding,
    Row,
    arbitrariness,
    discrepancy,
    habit,
    states,
    supremacy,
    unsteady,
)
from discretion.wording import count, fitting, listed, named, share, span

__all__ = ["Finding", "findings", "what_was_audited", "worth_knowing"]

_NAMES = 6  # annotators that are named before "and 3 more"


def findings(audit: Audit, at_most: int = 4) -> tuple[Finding, ...]:
    """Return what an audit found, the most basic first; what is undefined is left out.

    Parameters
    ----------
    audit : Audit
    at_most : int
        The order is: states, arbitrariness, supremacy, discrepancy, a habit of a judge. A habit so severe that it
        undoes other figures comes before the discrepancy.

    Returns
    -------
    tuple of Finding
    """
    basic = [states(audit), arbitrariness(audit), supremacy(audit)]
    apart = discrepancy(audit)
    found, severe = _habit(audit)
    chosen = [*basic, found, apart] if severe else [*basic, apart, found]
    return tuple(f for f in chosen if f is not None)[: max(at_most, 0)]


def what_was_audited(audit: Audit) -> str:
    """Return two to four sentences: comparisons, constitution, annotators, oracle, and what was left out."""
    table, size = audit.table, len(audit.table.constitution)
    origin = PurePath(audit.comparisons.origin).name if audit.comparisons is not None else ""
    principles = "one principle" if size == 1 else f"{size:,} principles"
    parts = [
        f"{count(len(table), 'comparison')} of two responses{f', from {named(origin)},' if origin else ''} "
        f"{'was' if len(table) == 1 else 'were'} held against {principles} (“{named(table.constitution.name)}”).",
        _who(audit),
        _oracle(audit),
    ]
    gone, _ = _left_out(audit)
    voiceless = len(table) - int(audit.states["n"][0])
    left = []
    if voiceless:
        left.append(f"{count(voiceless, 'comparison')} on which no principle has a vote")
    if gone:
        what = max((e for e in table.exclusions if not _is_kept(e.what)), key=lambda e: e.count)
        mostly = "mostly " if what.count < gone else ""
        left.append(f"{count(gone, 'entry', 'entries')} of the files ({mostly}{named(what.what)})")
    if left:
        parts.append(f"Left out: {' and '.join(left)}.")
    return " ".join(parts)


def worth_knowing(audit: Audit) -> tuple[str, ...]:
    """Return what a reader has to know of an audit: its warnings, and how much was left out while loading."""
    gone, kept = _left_out(audit)
    if not gone + kept:
        return audit.warnings
    counted = [f"{gone:,} {'was' if gone == 1 else 'were'} left out"] if gone else []
    counted += [f"{kept:,} {'was' if kept == 1 else 'were'} kept with a remark"] if kept else []
    return (*audit.warnings, f"Of the entries of the files {' and '.join(counted)}; the audit lists them.")


def _who(audit: Audit) -> str:
    reference = audit.settings.reference
    others = [named(n) for n in audit.annotators if n != reference]
    single = count(sum(a.kind == "rater" for a in audit.table.annotators), "single rater")
    if not audit.annotators:
        return f"{single} chose between the responses."
    first = f"{named(reference)} (the reference, with which the others are compared)" if others else named(reference)
    raters = "" if single.startswith("0 ") else f", beside {single}"
    return (
        f"{count(len(audit.annotators), 'annotator')} chose between the responses: {listed([first, *others], _NAMES)}"
        f"{raters}."
    )


def _oracle(audit: Audit) -> str:
    if audit.table.oracle is None:
        return "Which response each principle prefers was given with the data."
    first, second = audit.table.oracle.asked
    both, places = int((first & second).sum()), int((first | second).sum())
    if both >= 0.99 * places:
        orders = "in both orders of the responses"
    elif both:
        orders = f"{share(both / places)} of the pairs in both orders of the responses"
    else:
        orders = "in one order of the responses only"
    return (
        "An oracle was asked of each principle alone which response it prefers: "
        f"{count(int(first.sum() + second.sum()), 'judgement')}, {orders}."
    )


def _is_kept(what: str) -> bool:
    return what.startswith("kept")


def _left_out(audit: Audit) -> tuple[int, int]:
    """Return how many entries were left out while loading, and how many were kept and remarked on."""
    kept = sum(e.count for e in audit.table.exclusions if _is_kept(e.what))
    return sum(e.count for e in audit.table.exclusions) - kept, kept


def _habit(audit: Audit) -> tuple[Finding | None, bool]:
    """Return a judge that goes by position, or else an annotator that goes by length, and whether that is severe.

    Position undoes the figures of a judge; length does not, since a principle may have reasons for it.
    """
    shaky = unsteady(audit)
    if not shaky:
        return _length(audit), False
    return _position(audit, shaky[0]), shaky[0]["who"] == "oracle" or shaky[0]["high"] < 0.5


def _position(audit: Audit, row: Row) -> Finding:
    """Say how seldom a judge keeps its verdict. All else rests on the oracle: it is named before any annotator."""
    who, oracle = row["who"], row["who"] == "oracle"
    subject = "The oracle" if oracle else named(who)
    kept = f"{row['count']:,.0f} of {count(row['n'], 'judgement')} made in both orders"
    places = {p: habit(audit, f"{p} shown in both orders").get(who) for p in ("first", "second")}
    most, place = max((r["estimate"], p) for p, r in places.items() if r is not None)
    text = f"{subject} kept its verdict in {kept}" + (
        f"; in {share(most)} it chose the response shown {place}, whichever that was." if most else "."
    )
    text += " A verdict that turns with the order counts as "
    if oracle:
        text += "silence of the principle."
    else:
        decided = int((abs(audit.table.annotator(who).values) == 1).sum())
        text += f"no preference, which leaves {count(decided, 'preference')}."

    def title(width: int) -> Iterable[str]:
        name = "The oracle" if oracle else named(who, width)
        yield f"{name} keeps its verdict in only {share(row['estimate'])} when the responses swap places"

    return Finding(
        "position",
        fitting(title),
        share(row["estimate"]),
        text,
        f"{100 * audit.settings.level:g} % interval {span(row['low'], row['high'])}; a judge that goes by content "
        "alone keeps nearly all.",
        "It does not say which verdicts are right, and between responses of equal worth a verdict turns more easily.",
        {"state": "indifference"} if oracle else {"annotator": who, "side": "indifferent"},
    )


def _length(audit: Audit) -> Finding | None:
    """Say who prefers the longer response clearly more often than the principles do."""
    habits = habit(audit, "prefers the longer response")
    oracle = habits.pop("oracle", None)
    rows = [] if oracle is None else [r for r in habits.values() if r["low"] > max(0.5, oracle["high"])]
    if oracle is None or not rows:
        return None
    row = max(rows, key=lambda r: r["low"])
    name = named(row["who"])

    def title(width: int) -> Iterable[str]:
        does = f"{named(row['who'], width)} prefers the longer response in {share(row['estimate'])}"
        yield f"{does}, the principles in {share(oracle['estimate'])}"
        yield does

    return Finding(
        "length",
        fitting(title),
        share(row["estimate"]),
        f"Where one response is longer and {name} decided, it chose the longer one in {row['count']:,.0f} of "
        f"{count(row['n'], 'case')}. The principles did so in {oracle['count']:,.0f} of "
        f"{count(oracle['n'], 'preference')}.",
        f"{100 * audit.settings.level:g} % intervals: {name} {span(row['low'], row['high'])}, the principles "
        f"{span(oracle['low'], oracle['high'])}.",
        "It does not show that length is the reason: longer responses may be better in ways that no principle names.",
        {"state": "consensus", "annotator": row["who"], "side": "against-consensus"},
    )
