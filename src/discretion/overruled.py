"""Consensus that annotators overrule together: noise hits cases at random, a principle that is missing hits alike ones.

It cannot tell a missing principle from an oracle that misread a case: whoever reads the cases can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.metrics.agreement import CONSENSUS, states
from discretion.metrics.resampling import LEVEL, bootstrap_weights
from discretion.table import Annotator, PreferenceTable
from discretion.vocabulary import clusters, contrast, vocabulary
from discretion.vote import MISSING

Float = NDArray[np.float64]

_REPLICATES = 500
_TWINS = (
    0.98  # annotators that decide alike more often are one: variants of one model would overrule together by nature
)
_MOST_WORDS = 12
_MOST_READ = 20_000  # cases whose words are counted
_WORDS: dict[str, pl.DataType] = {
    "where": pl.String(), "word": pl.String(), "cases": pl.Float64(), "with": pl.Float64(), "without": pl.Float64(),
    "q": pl.Float64(),
}  # fmt: skip
_CLUSTERS: dict[str, pl.DataType] = {
    "cluster": pl.Int64(),
    "size": pl.Int64(),
    "words": pl.List(pl.String()),
    "ids": pl.List(pl.String()),
}


@dataclass(frozen=True)
class Overruled:
    """What annotators overrule together.

    Parameters
    ----------
    voters : int
        Annotators and single raters that count; groups of these raters, and annotators that decide as another, do not.
    cases : int
        With consensus and somebody who decided.
    observed, expected : float
        Pairs of voters that overrule the same case, and how many there would be if each did so at random, at his own
        rate.
    lift, low, high : float
        Their ratio with its interval over comparisons; NaN with fewer than two voters.
    ids : tuple of str
        The overruled cases: most of their voters, and two at least where there are two, go against the consensus.
    words : polars.DataFrame
        `where` ("prompt", "chosen response"), `word`, `cases` (overruled ones with it), `with`, `without` (shares that
        are overruled), `q`: words with which cases are overruled more often. Empty without texts.
    clusters : polars.DataFrame
        `cluster`, `size`, `words`, `ids`: overruled cases that belong together by their words.
    """

    voters: int
    cases: int
    observed: float
    expected: float
    lift: float
    low: float
    high: float
    ids: tuple[str, ...]
    words: pl.DataFrame
    clusters: pl.DataFrame


def overruled(audit: Audit, *, seed: int = 0) -> Overruled:
    """Find the consensus cases that an audit's annotators overrule together.

    Parameters
    ----------
    audit : Audit
    seed : int
        Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    table = audit.table
    n = len(table)
    told = _Against.of(table)
    voters, direction = told.voters, told.direction
    who, row, against = told.who, told.row, told.against
    deciders, rebels = told.deciders, told.rebels
    rate = _share(np.bincount(who[against], minlength=voters), np.bincount(who, minlength=voters))
    mine = rate[who]
    total, squares = (np.bincount(row, weights=value, minlength=n) for value in (mine, mine**2))
    together, by_chance = rebels * (rebels - 1.0), np.maximum(total**2 - squares, 0.0)
    lift, low, high = _ratio(together, by_chance, deciders > 0, rng)
    out = told.out
    cases = deciders > 0
    words, found = _texts(audit, cases, out, np.where(2 * rebels > deciders, -direction, direction), rng)
    return Overruled(
        voters, int(cases.sum()), float(together.sum() / 2), float(by_chance.sum() / 2), lift, low, high,
        tuple(table.ids.filter(pl.Series(out)).cast(pl.String).to_list()), words, found,
    )  # fmt: skip


def overruled_together(table: PreferenceTable) -> NDArray[np.bool_]:
    """Return which comparisons annotators overrule together, as `Overruled.ids`, bool (N,)."""
    return _Against.of(table).out


@dataclass(frozen=True)
class _Against:
    """What each voter decided where the principles agree.

    Parameters
    ----------
    voters : int
    direction : int8 (N,)
        Of the consensus.
    who, row : int64 (L,)
        Voter and comparison of each decision.
    against : bool (L,)
    deciders, rebels : int64 (N,)
        Voters who decided, and who decided against the consensus.
    """

    voters: int
    direction: NDArray[np.int8]
    who: NDArray[np.int64]
    row: NDArray[np.int64]
    against: NDArray[np.bool_]
    deciders: NDArray[np.int64]
    rebels: NDArray[np.int64]

    @classmethod
    def of(cls, table: PreferenceTable) -> _Against:
        n = len(table)
        state, direction, _ = states(table.X)
        voters = _voters(table)
        who, row, y = _long(voters, n)
        decided = (np.abs(y.astype(np.int16)) == 1) & (state[row] == CONSENSUS)
        who, row, y = who[decided], row[decided], y[decided]
        against = y == -direction[row]
        rebels = np.bincount(row[against], minlength=n)
        return cls(len(voters), direction, who, row, against, np.bincount(row, minlength=n), rebels)

    @property
    def out(self) -> NDArray[np.bool_]:
        """Where most of the voters, and two at least where there are two, went against the consensus, (N,)."""
        least = 2 if self.voters > 1 else 1
        return np.asarray((self.rebels >= least) & (2 * self.rebels > self.deciders))


def _voters(table: PreferenceTable) -> list[Annotator]:
    raters = [a for a in table.annotators if a.kind == "rater"]
    chosen: list[Annotator] = []
    seen: list[NDArray[np.int8]] = []
    for a in table.annotators:
        if a.kind not in ("annotator", "group") or (a.kind == "group" and raters):
            continue
        y = a.dense(len(table))
        if not any(_same(y, other) > _TWINS for other in seen):
            chosen.append(a)
            seen.append(y)
    return chosen + raters


def _same(a: NDArray[np.int8], b: NDArray[np.int8]) -> float:
    both = (np.abs(a.astype(np.int16)) == 1) & (np.abs(b.astype(np.int16)) == 1)
    return float((a == b)[both].mean()) if both.any() else 0.0


def _long(voters: list[Annotator], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    if not voters:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8)
    rows = [np.arange(n) if a.rows is None else a.rows for a in voters]
    who = np.repeat(np.arange(len(voters)), [len(r) for r in rows])
    return who, np.concatenate(rows).astype(np.int64), np.concatenate([a.values for a in voters])


def _share(count: NDArray[np.integer], n: NDArray[np.integer]) -> Float:
    return np.asarray(np.divide(count, n, out=np.zeros(len(n)), where=n > 0))


def _ratio(
    together: Float, by_chance: Float, there: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[float, float, float]:
    if by_chance.sum() <= 0:
        return np.nan, np.nan, np.nan
    a, b = together[there], by_chance[there]
    weights = bootstrap_weights(rng, _REPLICATES, len(a)).astype(np.float64)
    below = weights @ b
    ratios = (weights @ a)[below > 0] / below[below > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return float(a.sum() / b.sum()), float(low), float(high)


def _texts(
    audit: Audit, cases: NDArray[np.bool_], out: NDArray[np.bool_], chosen: NDArray[np.int8], rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the words and the clusters of what is overruled, where the audit has texts."""
    rows = np.flatnonzero(cases & (chosen != 0) & (chosen != MISSING))
    if len(rows) > _MOST_READ:
        rows = np.sort(rng.choice(rows, _MOST_READ, replace=False))
    if audit.comparisons is None or not len(rows):
        return pl.DataFrame(schema=_WORDS), pl.DataFrame(schema=_CLUSTERS)
    frame = audit.comparisons.frame
    at = audit.table.ids.cast(pl.String).to_frame("id").join(
        frame.with_row_index("row").select("id", "row"), on="id", how="left", maintain_order="left"
    )["row"]  # fmt: skip
    texts = frame.select("prompt", "first", "second")[at.gather(rows)]
    prompts = [text or "" for text in texts["prompt"].to_list()]
    first, second = texts["first"].to_list(), texts["second"].to_list()
    pairs = zip(first, second, chosen[rows].tolist(), strict=True)
    favoured = [_only(a, b) if way == 1 else _only(b, a) for a, b, way in pairs]
    happens = out[rows]
    found: list[dict[str, object]] = []
    for where, documents in (("prompt", prompts), ("chosen response", favoured)):
        set_apart = contrast(vocabulary(documents), happens)
        for k, word in enumerate(set_apart.words[:_MOST_WORDS]):
            found.append(
                {"where": where, "word": word, "cases": set_apart.count[k], "with": set_apart.with_[k],
                 "without": set_apart.without[k], "q": set_apart.q[k]}
            )  # fmt: skip
    which = np.flatnonzero(happens)
    ids = _ids(audit, rows[which])
    every = [f"{prompt} {only}" for prompt, only in zip(prompts, favoured, strict=True)]
    together = clusters([every[k] for k in which], every, rng=rng)
    made = [
        {"cluster": c, "size": int((together.of == c).sum()), "words": list(words),
         "ids": [i for i, of in zip(ids, together.of.tolist(), strict=True) if of == c]}
        for c, words in enumerate(together.words)
    ]  # fmt: skip
    return pl.DataFrame(found, schema=_WORDS), pl.DataFrame(made, schema=_CLUSTERS)


def _ids(audit: Audit, rows: NDArray[np.int64]) -> list[str]:
    """Return the ids of some comparisons, as text."""
    ids: list[str] = audit.table.ids.gather(rows).cast(pl.String).to_list()
    return ids


def _only(mine: str, other: str) -> str:
    """Return the words of one response that the other lacks."""
    theirs = set(other.lower().split())
    return " ".join(word for word in mine.split() if word.lower() not in theirs)
