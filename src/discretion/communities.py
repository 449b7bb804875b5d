"""Communities of raters: how each decides and ranks, and whether they differ beyond noise.

A community's vote on a comparison is the majority of its raters', so its ranking carries less noise the more raters it
has; figures of single labels and the agreement among raters stand beside it, which carry all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.audit import audit as audited
from discretion.document import records
from discretion.errors import ColumnError, DataError, shown
from discretion.metrics import reliability
from discretion.metrics.groups import Groups, choose_groups, group_distances
from discretion.metrics.priority import Prior
from discretion.metrics.raking import Reweighted, rake, weighted_shares
from discretion.metrics.resampling import LEVEL, share_interval
from discretion.rater_labels import MEASURES, RaterLabels
from discretion.table import Annotator
from discretion.vote import MISSING

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Report = Callable[[str, float], None]
Population = Mapping[str, Mapping[str, float]]
"""For each attribute of the raters the share of each value in the population."""

ALL = "all raters"
REWEIGHTED = "all raters, reweighted"
OTHERS = "(others)"
"""Values with fewer raters than asked for, together."""
UNKNOWN = "(unknown)"
"""Raters of whom an attribute is not known."""

_MOST = 24  # communities
_ALPHAS = 500  # bootstrap replicates of alpha
_SHUFFLES = 199
_TRIM = 10.0  # medians: one rater of a rare kind must not stand for a tenth of the world


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
        discrepancies with the same-discretion test. None without `by` and without a population.
    labels : polars.DataFrame
        `community`, `measure` (arbitrariness and habits of single labels), `estimate`, `low`, `high` (raters as
        clusters), `count`, `n`, `raters`.
    alpha : polars.DataFrame
        `community`, `alpha`, `low`, `high` (Krippendorff's, over comparisons), `comparisons` with two labels or more,
        `labels`.
    agreement : polars.DataFrame
        `community`, `other`, `same` (the share of pairs of labels that agree, within on the diagonal), `pairs`.
    gap, gap_p : float
        How much more often two labels agree within communities than between them, and the one-sided p-value of it when
        raters are dealt to communities at random; NaN with fewer than two.
    groups : Groups or None
        Clusters of raters by what they prioritise.
    reweighting : polars.DataFrame
        `measure`, `estimate`, `low`, `high` (each rater counts once), and the same `reweighted`, `reweighted_low`,
        `reweighted_high`, `effective` (raters). Empty without a population.
    weights : Reweighted or None
    raters : tuple of Annotator
        R.
    replicates, seed : int
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
        Weight the raters so that they have these shares (raking, weights at most ten medians).
    clusters : bool
        Whether to look for groups by what raters prioritise.
    least : int
        Raters of a community; smaller ones stand together as "(others)".
    replicates, seed : int
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
    streams = np.random.SeedSequence(seed).spawn(4)
    weights = None if population is None else _weights(labels.raters, population)
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
    agreed, p = _between(row, value, who, of, len(audit.table), len(names), np.random.default_rng(streams[1]))
    of_groups = None
    if by or weights is not None:
        of_groups = _audit_of_groups(audit, labels, names if by else (), of, weights, replicates, seed, threads, say)
    found = None
    if clusters:
        say("groups by what raters prioritise", 0.0)
        told = labels.decided
        found = choose_groups(
            audit.table.X, labels.row[told], labels.y[told], labels.who[told], len(labels.raters),
            np.random.default_rng(streams[2]),
        )  # fmt: skip
    return Communities(
        by=tuple(by), names=names, of=of, audit=of_groups, labels=_labels(labels, names, of),
        alpha=pl.DataFrame(frames),
        agreement=pl.DataFrame(
            [
                {"community": a, "other": b, "same": float(agreed.share[i, j]), "pairs": float(agreed.pairs[i, j])}
                for i, a in enumerate(names) for j, b in enumerate(names) if i <= j
            ]
        ),
        gap=agreed.gap, gap_p=p, groups=found, reweighting=_reweighting(labels, population, weights), weights=weights,
        raters=labels.raters, replicates=replicates, seed=seed,
    )  # fmt: skip


def known_of(raters: Sequence[Annotator]) -> list[str]:
    """Return the names of what is known of raters."""
    return list(dict.fromkeys(name for a in raters for name in a.about))


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
    joined = [" × ".join(a.about.get(name, UNKNOWN) for name in by) for a in raters]
    sizes = pl.Series("community", joined).value_counts().sort("count", "community", descending=[True, False])
    kept = sizes.filter(pl.col("count") >= least)["community"].to_list()
    if len(kept) > _MOST:
        raise DataError(
            f"{', '.join(by)} make {len(kept)} communities of {least} raters or more.", expected=f"at most {_MOST}",
            remedy="Cross fewer attributes, or ask for larger communities.",
        )  # fmt: skip
    place = {name: k for k, name in enumerate(kept)}
    of = np.array([place.get(name, len(kept)) for name in joined])
    names = tuple(kept) + (OTHERS,) * bool((of == len(kept)).any())
    if len(names) < 2:
        raise DataError(f"by {', '.join(by)} all raters are in one community.", expected="two or more")
    return names, of


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


def _between(
    row: Int, value: Int, who: Int, of: Int, n: int, groups: int, rng: np.random.Generator
) -> tuple[reliability.Agreement, float]:
    found = reliability.agreement(row, value, of[who], n, groups, 3)
    if groups < 2 or np.isnan(found.gap):
        return found, np.nan
    larger = 0
    for _ in range(_SHUFFLES):
        larger += reliability.agreement(row, value, rng.permutation(of)[who], n, groups, 3).gap >= found.gap
    return found, (larger + 1) / (_SHUFFLES + 1)


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


def _labels(labels: RaterLabels, names: Sequence[str], of: Int) -> pl.DataFrame:
    """Return the share of single labels by community and measure, each rater a cluster."""
    rows: list[dict[str, object]] = []
    for measure in MEASURES:
        count, n = labels.counts(measure)
        for k, name in enumerate(names):
            c, m = count[of == k], n[of == k]
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


def _weights(raters: Sequence[Annotator], population: Population) -> Reweighted:
    known = known_of(raters)
    codes, targets = [], []
    for name, shares in population.items():
        if name not in known:
            raise ColumnError(
                f"the population has shares by {shown(name)}, and nothing of that name is known of the raters.",
                expected=f"one of {', '.join(map(shown, known)) or '(nothing is known of them)'}.",
            )
        values = list(shares)
        given = np.array([shares[v] for v in values], np.float64)
        if not len(given) or not np.isfinite(given).all() or (given < 0).any() or abs(given.sum() - 1) > 1e-3:
            raise DataError(
                f"the population's shares by {shown(name)} have the sum {given.sum():g}.", expected="the sum 1"
            )
        place = {v: k for k, v in enumerate(values)}
        strange = sorted({a.about[name] for a in raters if name in a.about} - place.keys())
        if strange:
            raise DataError(
                f"raters have {shown(name)} {', '.join(map(shown, strange[:5]))}, which the population does not know.",
                expected=f"one of {', '.join(map(shown, values[:12]))}.",
                remedy="Give a share to every value, 0 to leave its raters out.",
            )
        codes.append([place.get(a.about.get(name, ""), -1) for a in raters])
        targets.append(given / given.sum())
    if not codes:
        raise DataError("the population has no attribute.", expected='such as {"age": {"18-34": 0.4, "35+": 0.6}}')
    found = rake(np.array(codes, np.int64).T, targets, trim=_TRIM)
    if found.absent:
        attribute, value = found.absent[0]
        name = list(population)[attribute]
        raise DataError(
            f"no rater has {shown(name)} {shown(list(population[name])[value])}, of which the population has "
            f"{targets[attribute][value]:.1%}.", expected="a rater of each kind that has a share",
            remedy="Merge it with another value, or leave the attribute out.",
        )  # fmt: skip
    return found


def _reweighting(labels: RaterLabels, population: Population | None, weights: Reweighted | None) -> pl.DataFrame:
    columns = ("estimate", "low", "high", "reweighted", "reweighted_low", "reweighted_high", "effective")
    schema: dict[str, type[pl.DataType]] = {"measure": pl.String} | dict.fromkeys(columns, pl.Float64)
    if weights is None or population is None:
        return pl.DataFrame(schema=schema)
    codes = np.array(
        [[sorted(shares).index(a.about[name]) if name in a.about else -1 for name, shares in population.items()]
         for a in labels.raters], np.int64,
    )  # fmt: skip
    rows = []
    for measure in MEASURES:
        count, n = labels.counts(measure)
        rates = np.divide(count, n, out=np.full(len(n), np.nan), where=n > 0)[:, None]
        plain = weighted_shares(rates, n.astype(np.int64), np.ones(len(n)))
        anew = weighted_shares(rates, n.astype(np.int64), weights.weights, codes=codes)
        rows.append(
            (measure, plain.estimate[0], plain.low[0], plain.high[0], anew.estimate[0], anew.low[0], anew.high[0],
             anew.effective[0])
        )  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def distances_between_groups(found: Groups) -> pl.DataFrame:
    """Return how differently groups rank the principles: `group`, `other`, `estimate`, `pairs`."""
    distance, pairs = group_distances(found.mixture.priorities)
    k = len(distance)
    rows = [(a + 1, b + 1, float(distance[a, b]), float(pairs[a, b])) for a in range(k) for b in range(a + 1, k)]
    return pl.DataFrame(
        rows, {"group": pl.Int64, "other": pl.Int64, "estimate": pl.Float64, "pairs": pl.Float64}, orient="row"
    )


def document(found: Communities, principles: Sequence[str]) -> dict[str, Any]:
    """Return what was found as JSON can hold it."""
    made: dict[str, Any] = {
        "by": list(found.by), "communities": list(found.names), "replicates": found.replicates, "seed": found.seed,
        "gap": found.gap, "gap_p": found.gap_p, "labels": records(found.labels), "alpha": records(found.alpha),
        "agreement": records(found.agreement), "members": records(found.members), "crossed": records(found.crossed),
        "reweighting": records(found.reweighting),
    }  # fmt: skip
    if found.audit is not None:
        for name in ("arbitrariness", "differences", "priority", "discrepancy", "floor"):
            made[name] = records(getattr(found.audit, name))
    if found.groups is not None:
        g = found.groups
        made["groups"] = {
            "k": g.k, "held_out": g.held_out.tolist(), "behind": g.behind.tolist(), "error": g.error.tolist(),
            "shares": g.mixture.shares.tolist(), "rand": g.stability.rand.tolist(),
            "rand_by_chance": g.null.rand.tolist(),
            "priorities": [dict(zip(principles, row, strict=True)) for row in g.mixture.priorities.tolist()],
            "apart": records(distances_between_groups(g)),
        }  # fmt: skip
    if found.weights is not None:
        w = found.weights
        made["weighting"] = {"effective": w.effective, "design_effect": w.design_effect, "gap": w.gap,
                             "converged": w.converged}  # fmt: skip
    return made
