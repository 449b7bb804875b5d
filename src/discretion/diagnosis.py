"""Diagnosis: the ways in which discretion fails, each looked for, with its evidence and what to do about it.

A symptom is only told where its interval lies beyond a stated bound: a short list that holds, at the price of symptoms
that small data cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.cases.query import Query
from discretion.document import records
from discretion.granularity import Granularity, granularity
from discretion.hacking import chains_of, hacked
from discretion.metrics.likeness import likeness, roles
from discretion.metrics.resampling import LEVEL, share_interval
from discretion.overruled import Overruled, overruled
from discretion.symptom import Symptom
from discretion.wording import count, listed, named, out_of, share, span

SILENT = 0.25
"""A constitution is called silent where the share of indifference lies above this."""
RARE = 0.02
"""A principle hardly ever votes where its share of votes lies below this."""
ARBITRARY = 0.1
"""An annotator is called arbitrary where his rate lies above this."""
ALIKE = 0.8
"""Two principles are one where the share in which they vote alike, of those in which either votes, lies above this."""
CONFLICTING = 0.6
"""A principle adds conflict only where more than this share of what it changes is consensus that it breaks, and the
reference follows it there in fewer than half of the cases."""

_LEAST = 20  # cases that a statement rests on

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Diagnosis:
    """What was looked for, and what was found.

    Parameters
    ----------
    symptoms : tuple of Symptom
    principles : polars.DataFrame
        `principle`, `votes`, `alone` (it is the only one that votes), `breaks` (it alone stands against the others),
        `joins`, `followed` and `stood` (of the cases in which it stood alone against the others, those in which the
        reference followed it, and in how many it decided), each a count.
    pairs : polars.DataFrame
        `principle`, `other`, `alike` with `low` and `high`, `same`, `opposed`, `either`: every two that vote together.
    overruled : Overruled
    granularity : Granularity
    chains : tuple of (str, str)
        The models, each with the reward model that it was trained on, that were held against each other.
    """

    symptoms: tuple[Symptom, ...]
    principles: pl.DataFrame
    pairs: pl.DataFrame
    overruled: Overruled
    granularity: Granularity
    chains: tuple[tuple[str, str], ...]


def diagnose(
    audit: Audit, *, chains: Sequence[tuple[str, str]] | None = None, seed: int = 0, report: Report | None = None
) -> Diagnosis:
    """Look for the ways in which discretion fails.

    Parameters
    ----------
    audit : Audit
    chains : sequence of (model, reward model), optional
        Who was trained on whom; by default every policy on every reward model.
    seed : int
    report : callable, optional

    Raises
    ------
    StudyError
        A chain names nobody.
    """
    say = report or (lambda stage, done: None)
    chains = chains_of(audit, chains)
    say("principles", 0.0)
    principles, pairs = _principles(audit), _pairs(audit)
    say("overruled cases", 0.2)
    together = overruled(audit, seed=seed)
    say("granularity", 0.4)
    finely = granularity(audit, seed=seed)
    say("models and their rewards", 0.8)
    found = [
        _silence(audit, principles),
        *_arbitrary(audit, together),
        _missing(audit, together),
        *hacked(audit, chains, seed),
        *_redundant(pairs),
        *_conflicting(audit, principles),
        _granular(audit, finely),
    ]
    return Diagnosis(tuple(s for s in found if s is not None), principles, pairs, together, finely, tuple(chains))


def document(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as JSON can hold it."""
    together = found.overruled
    return {
        "symptoms": [asdict(s) | {"cases": Query.parse(s.query.items()).address()} for s in found.symptoms],
        "principles": records(found.principles),
        "pairs": records(found.pairs),
        "overruled": {
            **{name: getattr(together, name) for name in _OVERRULED},
            "words": records(together.words),
            "clusters": records(together.clusters),
        },
        "merging": records(found.granularity.merging),
        "groups": records(found.granularity.groups),
        "dropping": records(found.granularity.dropping),
        "chains": [{"model": model, "reward": reward} for model, reward in found.chains],
    }


_OVERRULED = ("voters", "cases", "observed", "expected", "lift", "low", "high", "ids")


def _principles(audit: Audit) -> pl.DataFrame:
    table = audit.table
    counted, breaks = roles(table.X)
    y = _reference(audit)
    decided = np.abs(y.astype(np.int16)) == 1
    follows = decided[:, None] & (y[:, None] == table.X)
    return pl.DataFrame(
        {
            "principle": table.constitution.names, "votes": counted.votes, "alone": counted.alone,
            "breaks": counted.breaks, "joins": counted.joins,
            "followed": (breaks & follows).sum(axis=0).astype(np.float64),
            "stood": (breaks & decided[:, None]).sum(axis=0).astype(np.float64),
        }
    )  # fmt: skip


def _reference(audit: Audit) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    names = [a.name for a in audit.table.annotators]
    if audit.settings.reference not in names:
        return np.zeros(len(audit.table), np.int8)
    return audit.table.annotators[names.index(audit.settings.reference)].dense(len(audit.table))


def _pairs(audit: Audit) -> pl.DataFrame:
    names = audit.table.constitution.names
    found = likeness(audit.table.X)
    a, b = np.triu_indices(len(names), 1)
    there = found.either[a, b] > 0
    a, b = a[there], b[there]
    same, either = found.same[a, b], found.either[a, b]
    _, low, high = share_interval(same, either)
    return pl.DataFrame(
        {
            "principle": [names[k] for k in a], "other": [names[k] for k in b], "alike": same / either, "low": low,
            "high": high, "same": same, "opposed": found.opposed[a, b], "either": either,
        },
        schema_overrides={"principle": pl.String, "other": pl.String},
    ).sort("alike", descending=True, maintain_order=True)  # fmt: skip


def _silence(audit: Audit, principles: pl.DataFrame) -> Symptom | None:
    row = audit.states.row(by_predicate=pl.col("state") == "indifference", named=True)
    if not row["low"] > SILENT:
        return None
    judged = row["n"]
    _, _, high = share_interval(principles["votes"].to_numpy(), np.full(principles.height, float(judged)))
    rare = principles.filter(pl.Series(high) < RARE).sort("votes")
    names = tuple(rare["principle"].to_list())
    hardly = (
        f" {count(len(names), 'principle')} hardly ever {'has' if len(names) == 1 else 'have'} a say: "
        f"{listed([f'{named(p, 40)} ({v:,.0f} votes)' for p, v in rare.select('principle', 'votes').iter_rows()], 4)}."
        if names
        else ""
    )
    where = _where(audit)
    return Symptom(
        "silence",
        f"The constitution is silent in {share(row['estimate'])} of the cases",
        share(row["estimate"]),
        f"In {out_of(row['count'], judged, 'case')} no principle prefers a response.{hardly}{where}",
        f"95 % interval {span(row['low'], row['high'])}; told above {share(SILENT)}.",
        "Read silent cases: name the principle that would settle them, or say that they are a matter of taste and "
        "leave "
        "them out of training. Principles that never vote can go, or are worded for other data.",
        {"state": "indifference"},
        names,
    )


def _where(audit: Audit) -> str:
    """Name the value of an attribute with the most silence, where it is clearly more than elsewhere."""
    from discretion.cases.index import Cases

    silent = (audit.table.X == 0).all(axis=1) | ((audit.table.X != 1) & (audit.table.X != -1)).all(axis=1)
    best: tuple[float, str] | None = None
    cases = Cases(audit)
    for name, values in cases.filters.items():
        column = audit.table.attributes[name].cast(pl.String)
        for value in values:
            inside = (column == value).fill_null(False).to_numpy()
            n, m = int(inside.sum()), int((~inside).sum())
            if min(n, m) < _LEAST:
                continue
            _, low, _ = share_interval(np.array(float(silent[inside].sum())), np.array(float(n)))
            _, _, high = share_interval(np.array(float(silent[~inside].sum())), np.array(float(m)))
            if low > high and (best is None or low > best[0]):
                best = (
                    float(low),
                    f" Most where {named(name, 30)} is {named(value, 40)}: {share(silent[inside].mean())}.",
                )
    return best[1] if best else ""


def _arbitrary(audit: Audit, together: Overruled) -> list[Symptom]:
    if not audit.arbitrariness.width:
        return []
    rows = audit.arbitrariness.filter((pl.col("rule") == "consensus") & (pl.col("low") > ARBITRARY) & (pl.col("n") > 0))
    found = []
    for row in rows.sort("estimate", descending=True).iter_rows(named=True):
        who = row["annotator"]
        advice = (
            "Label a sample of these cases twice: where two labels of one person differ it is noise (clearer "
            "instructions, more labels a case); where they agree, a principle is missing or misread."
        )
        if row["low"] > 0.5:
            why = "That is the opposite of what the principles agree on, more often than not."
            advice = (
                "Check that its first and its second response are not exchanged; otherwise it is no judge of these."
            )
        elif together.voters > 1 and together.low > 1:
            why = "Annotators overrule the same cases more often than chance, which noise alone does not do; see there."
        else:
            why = "Nothing shows that annotators overrule the same cases, so noise is the simplest explanation."
        found.append(
            Symptom(
                "arbitrariness",
                f"{named(who, 40)} goes against agreeing principles in {share(row['estimate'])} of cases",
                share(row["estimate"]),
                f"{out_of(row['count'], row['n'], 'case')}. {why}",
                f"95 % interval {span(row['low'], row['high'])}; told above {share(ARBITRARY)}.",
                advice,
                {"state": "consensus", "annotator": who, "side": "against-consensus"},
                (who,),
            )
        )
    return found


def _missing(audit: Audit, together: Overruled) -> Symptom | None:
    if not (together.low > 1 and len(together.ids) >= _LEAST):
        return None
    words = [named(w, 20) for w in together.words["word"].to_list()]
    groups = [
        f"{size:,} cases ({', '.join(named(w, 20) for w in told[:4])})"
        for size, told in together.clusters.select("size", "words").iter_rows()
        if told
    ]
    about = f" Words that go with it: {listed(words, 6)}." if words else ""
    about += f" By their words they fall into {listed(groups, 4)}." if groups else ""
    return Symptom(
        "missing principle",
        f"Annotators overrule the same {len(together.ids):,} cases together",
        f"{together.lift:.1f} times",
        f"Pairs of {count(together.voters, 'annotator')} overrule the same consensus {together.observed:,.0f} times; "
        "at "
        f"random, each at his own rate, it would be {together.expected:,.0f}.{about}",
        f"95 % interval of the ratio {together.low:.2f}–{together.high:.2f}. A model trained on another annotator's "
        "labels "
        "shares its reasons and its noise, and an oracle that misreads a case is overruled by all.",
        "Read these cases by cluster. If annotators share a reason that no principle states, write it down as a "
        "principle, "
        "judge it, and audit again; if the oracle misread them, mend its wording or its prompt.",
        {"state": "overruled"},
    )


def _redundant(pairs: pl.DataFrame) -> list[Symptom]:
    near = pairs.filter((pl.col("low") > ALIKE) & (pl.col("either") >= _LEAST))
    return [
        Symptom(
            "redundant",
            f"“{named(r['principle'], 32)}” and “{named(r['other'], 32)}” vote as one",
            share(r["alike"]),
            f"Of {count(r['either'], 'case')} in which either prefers a response, both prefer the same one in "
            f"{r['same']:,.0f}, and they differ in {r['opposed']:,.0f}.",
            f"95 % interval {span(r['low'], r['high'])}; told above {share(ALIKE)}.",
            "Merge them or sharpen what tells them apart: together they count twice in every ranking and cost twice "
            "the "
            "judgements.",
            {"principle": r["principle"], "over": r["other"]},
            (r["principle"], r["other"]),
        )
        for r in near.iter_rows(named=True)
    ]


def _conflicting(audit: Audit, principles: pl.DataFrame) -> list[Symptom]:
    """Find principles that break consensus, hardly ever settle anything alone, and are not followed when they do."""
    found = []
    for r in principles.iter_rows(named=True):
        changes = r["breaks"] + r["alone"]
        if changes < _LEAST:
            continue
        _, low, high = (float(v) for v in share_interval(np.array(r["breaks"]), np.array(changes)))
        _, _, most = (float(v) for v in share_interval(np.array(r["followed"]), np.array(r["stood"])))
        if not (low > CONFLICTING and most < 0.5):
            continue
        who = named(audit.settings.reference) if audit.settings.reference else "the reference"
        followed = f" {who} follows it there in {out_of(r['followed'], r['stood'], 'case')}." if r["stood"] else ""
        found.append(
            Symptom(
                "conflicting",
                f"“{named(r['principle'], 40)}” adds conflict more than guidance",
                share(r["breaks"] / changes),
                f"It stands alone against agreeing principles in {count(r['breaks'], 'case')} and is the only one to "
                "speak "
                f"in {r['alone']:,.0f}.{followed}",
                f"95 % interval of the share that is conflict {span(low, high)}.",
                "Ask whether it belongs: dropping it turns those conflicts into consensus. If it does, say when it "
                "outweighs "
                "the others.",
                {"state": "conflict", "principle": r["principle"]},
                (r["principle"],),
            )
        )
    return found


def _granular(audit: Audit, finely: Granularity) -> Symptom | None:
    """Say so where merging the principles down to half of them changes who goes against a consensus more often."""
    p = len(audit.table.constitution)
    wide = finely.merging.filter(pl.col("figure") == "arbitrariness")
    if p < 4 or not wide.height or not audit.differences.height:
        return None
    half = min((k for k in wide["principles"].unique().to_list() if k >= p / 2), default=p)
    if half == p:
        return None
    whole, less = (dict(wide.filter(pl.col("principles") == k).select("annotator", "estimate").iter_rows())
                   for k in (p, half))  # fmt: skip
    turned = []
    for r in audit.differences.filter(pl.col("q_value") < 1 - LEVEL).iter_rows(named=True):
        a, b = r["annotator"], r["other"]
        if {a, b} <= whole.keys() & less.keys() and (whole[a] - whole[b]) * (less[a] - less[b]) < 0:
            turned.append((a, b))
    if not turned:
        return None
    a, b = turned[0]
    return Symptom(
        "granularity",
        f"Who is more arbitrary turns when like principles are merged ({p} to {half})",
        f"{len(turned):,}",
        f"{named(a, 30)} against {named(b, 30)}: {share(whole[a])} and {share(whole[b])} with {p} principles, "
        f"{share(less[a])} and {share(less[b])} with {half}.",
        f"Of {count(audit.differences.height, 'pair')} of annotators, {len(turned):,} that clearly differ turn.",
        "Report both: such a difference is one of the list of principles as much as of the annotators.",
        {"state": "consensus", "annotator": a, "other": b, "side": "differ"},
        (a, b),
    )
