"""Communities of raters: how each decides and ranks, and whether they differ beyond noise.

A community's vote on a comparison is the majority of its raters', so its ranking carries less noise the more raters it
has; figures of single labels and the agreement among raters stand beside it, which carry all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.audit import audit as audited
from discretion.dealing import deal
from discretion.errors import ColumnError, DataError, shown
from discretion.metrics import reliability
from discretion.metrics.groups import Groups, choose_groups, group_distances
from discretion.metrics.priority import Prior
from discretion.metrics.raking import Reweighted
from discretion.metrics.resampling import LEVEL, false_discovery, share_interval
from discretion.rater_labels import MEASURES, RaterLabels
from discretion.reweighting import Population, population_weights, reweighted_measures, whole_shares
from discretion.reweighting import known_of as known_of
from discretion.table import Annotator
from discretion.vote import MISSING

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Report = Callable[[str, float], None]

ALL = "all raters"
REWEIGHTED = "all raters, reweighted"
OTHERS = "(others)"
"""Values with fewer raters than asked for, together."""
UNKNOWN = "(unknown)"
"""Raters of whom an attribute is not known."""
SWAPS, DEALS = "swaps", "deals"
"""How two communities are tested: labels of one comparison swapped, or raters dealt to the two at random."""

_OWN = (ALL, REWEIGHTED, OTHERS, UNKNOWN)
_MOST = 24  # communities
_ALPHAS = 500  # bootstrap replicates of alpha
_FLIPS = 199
_DEALS = 199
_CHEAP = 200_000_000  # labels that deals beside swaps may turn, some ten seconds
_COMMON = 20  # comparisons that two communities share: with fewer there is next to nothing to swap
_TESTS = {
    "community": pl.String, "other": pl.String, "test": pl.String, "p": pl.Float64, "q": pl.Float64,
    "null_mean": pl.Float64, "common": pl.Int64, "p_deals": pl.Float64, "q_deals": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Communities:
    """Raters by community.

    Parameters
    ----------
    by : tuple of str
        Attributes of the raters, crossed.
    names : tuple of str
        The communities, the largest first.
    of : int64 (R,)
        The community of each rater; 0 for all without `by`.
    audit : Audit or None
        Of the communities' majorities, beside that of all raters (the reference): arbitrariness, priorities,
        discrepancies with the same-discretion test by label swaps. None without `by` and without a population.
    labels : polars.DataFrame
        `community`, `measure` (arbitrariness and habits of single labels), `estimate`, `low`, `high` (raters as
        clusters), `count`, `n`, `raters`; with `by` also of all raters.
    alpha : polars.DataFrame
        `community`, `alpha`, `low`, `high` (Krippendorff's, over comparisons), `comparisons` with two labels or more,
        `labels`.
    agreement : polars.DataFrame
        `community`, `other`, `same` (the share of pairs of labels that agree, within on the diagonal), `pairs`.
    gap, gap_p : float
        How much more often two labels of one comparison agree within communities than between them, on average over
        the comparisons that have both kinds of pair, and the one-sided p-value of it (see `reliability.gap`); NaN
        where there are none.
    groups : Groups or None
        Clusters of raters by what they prioritise.
    reweighting : polars.DataFrame
        `measure`, `estimate`, `low`, `high` (each rater counts once), and the same `reweighted`, `reweighted_low`,
        `reweighted_high`, `effective` (raters). Empty without a population.
    weights : Reweighted or None
    raters : tuple of Annotator
        R.
    replicates, seed : int
    gap_comparisons : int
        What the gap rests on.
    tests : polars.DataFrame
        Whether two communities rank alike: `community`, `other`, `test` (`SWAPS`, or `DEALS` where the two share too
        few comparisons; "" for none), `p`, `q` (false discoveries among these rows controlled), `null_mean` (of the
        discrepancy), `common` (comparisons), `p_deals`, `q_deals` (of deals for all, NaN
        beside swaps where there are too many labels for it). Swaps ask whether these very
        raters rank alike, deals whether two communities do of whom they are a sample: where raters of one community
        differ among themselves the first is easily small.
    deals : int
        How often raters were dealt.
    unknown : mapping of str to int
        By attribute of the population the raters of whom it is not known: it leaves their weight as it is.
    """

    by: tuple[str, ...]
    names: tuple[str, ...]
    of: Int
    audit: Audit | None
    labels: pl.DataFrame
    alpha: pl.DataFrame
    agreement: pl.DataFrame
    gap: float
    gap_p: float
    groups: Groups | None
    reweighting: pl.DataFrame
    weights: Reweighted | None
    raters: tuple[Annotator, ...]
    replicates: int
    seed: int
    gap_comparisons: int = 0
    tests: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_TESTS))
    deals: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)

    @property
    def why_no_alpha(self) -> str:
        """A sentence that says why alpha is undefined, where it is; "" where it is defined for all."""
        rows = self.alpha.filter(pl.col("alpha").is_nan())
        if not rows.height:
            return ""
        reasons = [
            (rows.filter(pl.col("comparisons") == 0), "no comparison has labels of two of these raters"),
            (rows.filter(pl.col("comparisons") > 0), "all labels of comparisons with two or more are alike"),
        ]
        told = [
            (f"of {', '.join(part['community'])} " if part.height < self.alpha.height else "") + f"since {why}"
            for part, why in reasons
            if part.height
        ]
        return f"Alpha is undefined {', and '.join(told)}."

    @property
    def members(self) -> pl.DataFrame:
        """Who stands where: `rater`, `community`, `group` (from 1; null: nothing tells), its `chance`, `weight`."""
        found = {"rater": [a.name for a in self.raters], "community": [self.names[k] for k in self.of.tolist()]}
        frame = pl.DataFrame(found)
        if self.groups is not None:
            best = self.groups.mixture.group
            sure = np.nanmax(np.nan_to_num(self.groups.mixture.responsibilities, nan=-1.0), axis=1)
            frame = frame.with_columns(
                group=pl.Series([None if g < 0 else g + 1 for g in best.tolist()], dtype=pl.Int64),
                chance=pl.Series(np.where(sure < 0, np.nan, sure)),
            )
        if self.weights is not None:
            frame = frame.with_columns(weight=pl.Series(self.weights.weights))
        return frame

    @property
    def crossed(self) -> pl.DataFrame:
        """How many raters of each community are in each group: `community`, `group`, `raters`."""
        frame = self.members
        if "group" not in frame.columns:
            return pl.DataFrame(schema={"community": pl.String, "group": pl.Int64, "raters": pl.UInt32})
        known = frame.drop_nulls("group")
        return known.group_by("community", "group").agg(raters=pl.len()).sort("community", "group")


def communities(
    audit: Audit,
    by: Sequence[str] = (),
    *,
    population: Population | None = None,
    clusters: bool = True,
    least: int = 5,
    replicates: int = 500,
    deals: int = _DEALS,
    seed: int = 0,
    threads: int | None = None,
    report: Report | None = None,
) -> Communities:
    """Hold communities of an audit's raters against each other.

    Parameters
    ----------
    audit : Audit
        With raters.
    by : sequence of str
        Attributes of the raters; several are crossed.
    population : mapping of attribute to mapping of value to share, optional
        Weight the raters so that they have these shares, parts of 1 or of 100 (raking, weights at most ten medians).
    clusters : bool
        Whether to look for groups by what raters prioritise.
    least : int
        Raters of a community; smaller ones stand together as "(others)".
    replicates : int
        Of the bootstrap, and one more than label swaps; with none there are no tests of the same discretion.
    deals : int
        Of the raters of two communities to the two; what tests those that share fewer than twenty comparisons.
    seed : int
    threads : int, optional
    report : callable, optional

    Raises
    ------
    EmptyError
        There are no raters.
    ColumnError
        Nothing of this name is known of the raters.
    DataError
        There are too many communities, or a population does not fit.
    """
    say = report or (lambda stage, done: None)
    labels = RaterLabels.of(audit.table)
    names, of = _codes(labels.raters, by, least)
    streams = np.random.SeedSequence(seed).spawn(5)
    population = None if population is None else whole_shares(population)
    weights = None if population is None else population_weights(labels.raters, population)
    say("agreement among raters", 0.0)
    value = labels.y.astype(np.int64) + 1
    kept = labels.y != MISSING
    row, value, who = labels.row[kept], value[kept], labels.who[kept]
    frames = [
        alpha_of(ALL, reliability.value_counts(row, value, len(audit.table), 3), np.random.default_rng(streams[0]))
    ]
    if by:
        for k, name in enumerate(names):
            mine = of[who] == k
            counts = reliability.value_counts(row[mine], value[mine], len(audit.table), 3)
            frames.append(alpha_of(name, counts, np.random.default_rng(streams[0])))
    agreed = reliability.agreement(row, value, of[who], len(audit.table), len(names), 3)
    signs = np.random.default_rng(streams[1]).choice(np.array([-1, 1], np.int8), (_FLIPS, len(labels.raters)))
    gap = reliability.gap(row, value, who, of, signs, 3)
    of_groups = None
    if by or weights is not None:
        of_groups = _audit_of_groups(audit, labels, names if by else (), of, weights, replicates, seed, threads, say)
    tests = pl.DataFrame(schema=_TESTS)
    if by and of_groups is not None:
        deals = deals if replicates else 0
        rng = np.random.default_rng(streams[4])
        tests = _tests(of_groups, labels, names, of, deals, rng, threads or 1, lambda done: say("dealing raters", done))
    found = None
    if clusters:
        say("groups by what raters prioritise", 0.0)
        told = labels.decided
        found = choose_groups(
            audit.table.X, labels.row[told], labels.y[told], labels.who[told], len(labels.raters),
            np.random.default_rng(streams[2]),
        )  # fmt: skip
    return Communities(
        by=tuple(by), names=names, of=of, audit=of_groups, labels=_labels(labels, names, of, bool(by)),
        alpha=pl.DataFrame(frames),
        agreement=pl.DataFrame(
            [
                {"community": a, "other": b, "same": float(agreed.share[i, j]), "pairs": float(agreed.pairs[i, j])}
                for i, a in enumerate(names) for j, b in enumerate(names) if i <= j
            ]
        ),
        gap=gap.estimate, gap_p=gap.p, groups=found, reweighting=reweighted_measures(labels, population, weights),
        weights=weights, raters=labels.raters, replicates=replicates, seed=seed, gap_comparisons=gap.comparisons,
        tests=tests, deals=deals if by else 0,
        unknown={name: sum(name not in a.about for a in labels.raters) for name in population or ()},
    )  # fmt: skip


def _codes(raters: Sequence[Annotator], by: Sequence[str], least: int) -> tuple[tuple[str, ...], Int]:
    known = known_of(raters)
    for name in by:
        if name not in known:
            raise ColumnError(
                f"nothing named {shown(name)} is known of the raters.",
                expected=f"one of {', '.join(map(shown, known)) or '(nothing is known of them)'}.",
                remedy="Add a column to the raters' file, with one value for each rater.",
            )
    if not by:
        return (ALL,), np.zeros(len(raters), np.int64)
    crossed = [tuple(a.about.get(name) for name in by) for a in raters]
    sizes = sorted(Counter(crossed).items(), key=lambda each: (-each[1], [v or UNKNOWN for v in each[0]]))
    kept = [values for values, count in sizes if count >= least]
    if len(kept) > _MOST:
        raise DataError(
            f"{', '.join(by)} make {len(kept)} communities of {least} raters or more.", expected=f"at most {_MOST}",
            remedy="Cross fewer attributes, or ask for larger communities.",
        )  # fmt: skip
    place = {values: k for k, values in enumerate(kept)}
    of = np.array([place.get(values, len(kept)) for values in crossed])
    names = _named(by, kept) + (OTHERS,) * bool((of == len(kept)).any())
    if len(names) < 2:
        raise DataError(f"by {', '.join(by)} all raters are in one community.", expected="two or more")
    return names, of


def _named(by: Sequence[str], kept: Sequence[tuple[str | None, ...]]) -> tuple[str, ...]:
    """Name communities by their values, by attributes too where a name would be one of ours or another's."""
    plain = [" × ".join(_part(attribute, v) for attribute, v in zip(by, values, strict=True)) for values in kept]
    often = Counter(plain)
    names: list[str] = []
    for values, name in zip(kept, plain, strict=True):
        if often[name] > 1:  # values that hold the sign between them
            name = " × ".join(f"{attribute}: {v or UNKNOWN}" for attribute, v in zip(by, values, strict=True))
        number, first = 1, name
        while name in names:
            number += 1
            name = f"{first} ({number})"
        names.append(name)
    return tuple(names)


def _part(attribute: str, value: str | None) -> str:
    return UNKNOWN if value is None else f"{attribute}: {value}" if value in _OWN else value


def alpha_of(name: str, counts: Float, rng: np.random.Generator) -> dict[str, object]:
    """Return alpha with its percentile interval over comparisons; equal rows are drawn together, as a multinomial."""
    paired = counts[counts.sum(axis=1) >= 2]
    estimate = float(reliability.alpha(paired))
    low = high = np.nan
    if len(paired) > 1 and not np.isnan(estimate):
        kinds, sizes = np.unique(paired, axis=0, return_counts=True)
        weights = rng.multinomial(len(paired), sizes / len(paired), _ALPHAS).astype(np.float64)
        drawn = reliability.alpha(kinds, weights)
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {"community": name, "alpha": estimate, "low": float(low), "high": float(high), "comparisons": len(paired),
            "labels": int(paired.sum())}  # fmt: skip


def _audit_of_groups(
    audit: Audit,
    labels: RaterLabels,
    names: Sequence[str],
    of: Int,
    weights: Reweighted | None,
    replicates: int,
    seed: int,
    threads: int | None,
    say: Report,
) -> Audit:
    """Audit the majorities of the communities, of all, and of all as the population would have them."""
    n = len(audit.table)
    sides = np.where(labels.decided, labels.y, 0).astype(np.float64)
    asked = labels.y != MISSING

    def majority(name: str, mine: NDArray[np.bool_], weight: Float | None = None) -> Annotator:
        w = sides[mine] if weight is None else sides[mine] * weight[labels.who[mine]]
        total = np.bincount(labels.row[mine], weights=w, minlength=n)
        there = np.bincount(labels.row[mine & asked], minlength=n) > 0
        # Sums of weights that should cancel leave rounding behind, which is no majority.
        sign = np.where(np.abs(total) < 1e-9, 0, np.sign(total))
        values = np.where(there, sign, MISSING).astype(np.int8)
        return Annotator(name, values, kind="group", source="majority of raters")

    group = of[labels.who]
    made = [majority(ALL, np.ones(len(labels), np.bool_))]
    if weights is not None:
        made.append(majority(REWEIGHTED, np.ones(len(labels), np.bool_), weights.weights))
    made += [majority(name, group == k) for k, name in enumerate(names)]
    # Without the oracle's probabilities: other readings of them are those of the audit itself.
    bare = replace(audit.table, annotators=tuple(made), oracle=None)
    return audited(
        bare, replicates=replicates, seed=seed, reference=ALL, cluster=audit.settings.cluster,
        prior=Prior.of(audit.settings.prior), confidences=(), threads=threads, name=f"{audit.name}: communities",
        progress=say,
    )  # fmt: skip


def _tests(
    found: Audit,
    labels: RaterLabels,
    names: Sequence[str],
    of: Int,
    deals: int,
    rng: np.random.Generator,
    threads: int,
    report: Callable[[float], None],
) -> pl.DataFrame:
    """Return a p-value for every two communities: by swaps where they share comparisons, otherwise by deals."""
    place = {name: k for k, name in enumerate(names)}
    rows = found.discrepancy.filter(pl.col("annotator").is_in(list(names)) & pl.col("other").is_in(list(names)))
    p, null = rows["p_value"].to_numpy(), rows["null_mean"].to_numpy()
    common = rows["common"].to_numpy()
    pairs = [(place[a], place[b]) for a, b in rows.select("annotator", "other").iter_rows()]
    how = np.where(np.isnan(p), "", SWAPS).astype(object)
    p_deals = np.full(len(p), np.nan)
    lacking = (common < _COMMON) | np.isnan(p)
    # Beside swaps, where that is cheap: each deal turns all labels of the pair.
    work = deals * sum(np.isin(of[labels.who], pair).sum() for pair in pairs)
    dealt = np.flatnonzero(lacking | (work <= _CHEAP))
    if deals and len(dealt):
        some = [pairs[k] for k in dealt]
        made = deal(labels, of, some, deals, rng, prior=Prior.of(found.settings.prior), threads=threads, report=report)
        p_deals[dealt] = made.p
        nulls = np.full(len(p), np.nan)
        nulls[dealt] = made.null_mean
        instead = lacking & ~np.isnan(p_deals)
        p, null = np.where(instead, p_deals, p), np.where(instead, nulls, null)
        how = np.where(instead, DEALS, how)
    told = {"community": rows["annotator"], "other": rows["other"], "test": how.tolist(), "p": p,
            "q": false_discovery(p), "null_mean": null, "common": common, "p_deals": p_deals,
            "q_deals": false_discovery(p_deals)}  # fmt: skip
    return pl.DataFrame(told, schema=_TESTS)


def _labels(labels: RaterLabels, names: Sequence[str], of: Int, every: bool) -> pl.DataFrame:
    """Return the share of single labels by community and measure, each rater a cluster; of all raters first."""
    rows: list[dict[str, object]] = []
    for measure in MEASURES:
        count, n = labels.counts(measure)
        groups = [(ALL, np.ones(len(of), np.bool_))] * every + [(name, of == k) for k, name in enumerate(names)]
        for name, mine in groups:
            c, m = count[mine], n[mine]
            part, whole = c.sum(), m.sum()
            share = part / whole if whole else np.nan
            _, low, high = share_interval(
                np.array(part), np.array(whole), spread=np.array(((c - np.nan_to_num(share) * m) ** 2).sum()),
                concentration=np.array((m**2).sum()),
                pieces=np.array(float((m > 0).sum())),
            )  # fmt: skip
            rows.append(
                {"community": name, "measure": measure, "estimate": float(share), "low": float(low),
                 "high": float(high), "count": float(part), "n": float(whole), "raters": int((m > 0).sum())}
            )  # fmt: skip
    return pl.DataFrame(rows)


def distances_between_groups(found: Groups) -> pl.DataFrame:
    """Return how differently groups rank the principles: `group`, `other`, `estimate`, `pairs`."""
    distance, pairs = group_distances(found.mixture.priorities)
    k = len(distance)
    rows = [(a + 1, b + 1, float(distance[a, b]), float(pairs[a, b])) for a in range(k) for b in range(a + 1, k)]
    return pl.DataFrame(
        rows, {"group": pl.Int64, "other": pl.Int64, "estimate": pl.Float64, "pairs": pl.Float64}, orient="row"
    )
