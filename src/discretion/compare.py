"""Oracles held against each other: whether they agree, and whether the audit would say the same with another one.

The conclusions of an audit rest on an oracle that errs. This says how much, and what is left of a figure then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit, audit
from discretion.diff import diff
from discretion.errors import DataError
from discretion.metrics import resampling
from discretion.metrics.agreement import states
from discretion.metrics.agreement_between import Agreement, agreement, confusion_from_labels, state_flips
from discretion.metrics.components import Components, components
from discretion.metrics.consensus import dawid_skene, majority
from discretion.metrics.correction import Estimate, correct_by_confusion, prediction_powered
from discretion.metrics.counts import block_limit
from discretion.oracles import Oracle
from discretion.table import PreferenceTable
from discretion.view import View
from discretion.vote import MISSING

Float = NDArray[np.float64]
Report = Callable[[str, float], None]

STATES = ("consensus", "conflict", "indifference")
_CORRECTED_REPLICATES = 50  # each refits a model of the truth, at 0.1 s for HH's 2,312 comparisons and 21 principles
_VARIANCE_REPLICATES = 200
_AT_ONCE = 100  # replicates whose wins are held at a time


@dataclass(frozen=True)
class OracleComparison:
    """What became of comparing oracles.

    Parameters
    ----------
    oracles : tuple of str
        The first is what the others are compared with; consensus oracles come last.
    agreement : polars.DataFrame
        `first`, `second`, `principle` (null: all together), `n`, and `share`, `kappa` and `weighted_kappa` with
        `_low` and `_high`.
    states : polars.DataFrame
        `first`, `second`, `before`, `after`, `count`: what becomes of the agreement states.
    flips : polars.DataFrame
        `first`, `second`, `n`, `flipped` with `low` and `high`, `reversed`.
    figures : polars.DataFrame
        The audit's figures with the first oracle and with each other one, as `diff` compares them, with `oracle`.
    supremacy : polars.DataFrame
        `oracle`, `annotator`, `measure` ("mean shift": of supremacies, weighted by the fewer conflicts; "other winner":
        share of pairs of principles), `estimate`, `low`, `high`, `pairs`.
    corrected : polars.DataFrame
        `oracle`, `annotator`, `method`, `estimate`, `se`, `low`, `high`, `n`.
    confusion : polars.DataFrame
        `oracle`, `source` ("labels" or "Dawid-Skene"), `truth`, `said`, `share`.
    variance : polars.DataFrame
        `source`, `share` with `low` and `high`, `variance`, `pairs`.
    labelled : int
        Comparisons with people's labels for all principles.
    replicates, seed : int
    unit : str
        What was resampled.
    warnings : tuple of str
    consensus : mapping
        The consensus oracles, by name.
    """

    oracles: tuple[str, ...]
    agreement: pl.DataFrame
    states: pl.DataFrame
    flips: pl.DataFrame
    figures: pl.DataFrame
    supremacy: pl.DataFrame
    corrected: pl.DataFrame
    confusion: pl.DataFrame
    variance: pl.DataFrame
    labelled: int
    replicates: int
    seed: int
    unit: str
    warnings: tuple[str, ...] = ()
    consensus: dict[str, Oracle] = field(default_factory=dict, repr=False)


def compare(
    table: PreferenceTable,
    oracles: Sequence[Oracle],
    *,
    labels: NDArray[np.int8] | None = None,
    judgements: pl.DataFrame | None = None,
    replicates: int = 1000,
    seed: int = 0,
    cluster: str | None = None,
    reference: str | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> OracleComparison:
    """Compare oracles on a table's comparisons.

    Parameters
    ----------
    table : PreferenceTable
        Its own oracle does not matter; its annotators do.
    oracles : sequence of Oracle
        Two or more; the first is what the others are compared with.
    labels : int8 (N, P), optional
        People's labels of what each principle prefers, `MISSING` where there is none: for correction.
    judgements : polars.DataFrame, optional
        Every single judgement, see `oracles.judgement_rows`: for components of variance.
    replicates, seed, cluster, reference : as for `audit`

    Raises
    ------
    DataError
        There are fewer than two oracles, or labels of another shape.
    """
    shape = (len(table), len(table.constitution))
    if len(oracles) < 2:
        raise DataError(
            f"there {'is one oracle' if oracles else 'is no oracle'}.",
            expected="two or more: --oracle NAME=FILE, files in the study's folder oracles, or --by-order.",
        )
    if labels is not None and labels.shape != shape:
        raise DataError(f"the labels have the shape {labels.shape}.", expected=f"{shape}: comparisons by principles.")
    say = report or (lambda stage, done: None)
    rng = np.random.default_rng(seed)
    units = resampling.units(shape[0], table.cluster_codes(cluster), rng, at_most=block_limit(shape[1]))
    weights = resampling.bootstrap_weights(rng, replicates, units.n)
    warnings: list[str] = []
    say("agreement", 0.0)
    agreed, moved, flips = _agreements(table, oracles, weights, units)
    consensus, confusion = _consensus(oracles, warnings)
    every = [*oracles, *consensus.values()]
    say("figures", 0.2)
    with_labels = None if labels is None else (labels != MISSING).all(axis=1)
    figures = _figures(
        table, every, replicates, seed, cluster, reference, threads, lambda d: say("figures", 0.2 + d / 2)
    )
    supremacy = _supremacies(table, every, weights, units)
    say("correcting", 0.7)
    known = _confusions(oracles, labels, confusion)
    corrected = _corrected(
        table, oracles, labels, [one for one in known if one.oracle is oracles[0]], weights[:_CORRECTED_REPLICATES],
        units, lambda done: say("correcting", 0.7 + done / 5),
    )  # fmt: skip
    say("variance", 0.9)
    variance = _variance(judgements, units, weights, warnings)
    return OracleComparison(
        oracles=tuple(o.name for o in every), agreement=agreed, states=moved, flips=flips, figures=figures,
        supremacy=supremacy, corrected=corrected, confusion=_confusion_frame(known), variance=variance,
        labelled=0 if with_labels is None else int(with_labels.sum()), replicates=replicates, seed=seed,
        unit=units.kind, warnings=tuple(warnings), consensus=consensus,
    )  # fmt: skip


def _agreements(
    table: PreferenceTable, oracles: Sequence[Oracle], weights: NDArray[np.float32], units: resampling.Units
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    names = table.constitution.names
    agreed, moved, flips = [], [], []
    for a, b in combinations(oracles, 2):
        known = (a.X != MISSING) & (b.X != MISSING)
        x, y = (np.where(known, o.X, 0).astype(np.int8) for o in (a, b))
        point = agreement(x, y, known)
        drawn = agreement(x, y, known, weights, units=units.codes)
        for principle, one, many in (
            (None, point.pooled(), drawn.pooled()),
            *((name, _at(point, c), _at(drawn, c)) for c, name in enumerate(names)),
        ):
            row: dict[str, object] = {"first": a.name, "second": b.name, "principle": principle, "n": float(one.n)}
            for figure in ("share", "kappa", "weighted_kappa"):
                value, replicated = float(getattr(one, figure)), getattr(many, figure)
                row |= {figure: value, **_bounds(figure, value, replicated)}
            agreed.append(row)
        whole, drawn_flips = state_flips(x, y, known), state_flips(x, y, known, weights, units=units.codes)
        for i, before in enumerate(STATES):
            for j, after in enumerate(STATES):
                count = float(whole.counts[i, j])
                moved.append({"first": a.name, "second": b.name, "before": before, "after": after, "count": count})
        bounds = _bounds("", float(whole.flipped), drawn_flips.flipped)
        flips.append(
            {
                "first": a.name, "second": b.name, "n": float(whole.n), "flipped": float(whole.flipped),
                "low": bounds["_low"], "high": bounds["_high"], "reversed": float(whole.reversed),
            }
        )  # fmt: skip
    kinds = {"principle": pl.String}
    return (
        pl.DataFrame(agreed, schema_overrides=kinds, infer_schema_length=None),
        pl.DataFrame(moved),
        pl.DataFrame(flips),
    )


def _at(found: Agreement, c: int) -> Agreement:
    """Return the agreement on one principle."""
    figures = (getattr(found, name)[..., c] for name in ("n", "share", "kappa", "weighted_kappa"))
    return Agreement(found.counts[..., c, :, :], *figures)


def _bounds(figure: str, value: float, replicated: Float) -> dict[str, float]:
    low = high = float("nan")
    if np.isfinite(value) and len(replicated):
        found = resampling.percentile_interval(np.asarray(replicated)[:, None])
        low, high = float(found[0][0]), float(found[1][0])
    return {f"{figure}_low": low, f"{figure}_high": high}


def _consensus(oracles: Sequence[Oracle], warnings: list[str]) -> tuple[dict[str, Oracle], dict[str, Float]]:
    """Return the consensus oracles, and what Dawid and Skene's model says of each oracle's errors."""
    votes = np.stack([o.X for o in oracles])
    known = votes != MISSING
    votes = np.where(known, votes, 0).astype(np.int8)
    by_most = majority(votes, known)
    X = np.where(by_most.known, by_most.votes, MISSING).astype(np.int8)
    found = {"majority": Oracle("majority", X, model="majority")}
    if len(oracles) < 3:
        warnings.append(
            "Two oracles do not determine who of them errs: Dawid and Skene's model takes three. The majority of two "
            "is what both say."
        )
        return found, {}
    fitted = dawid_skene(votes, known)
    if not fitted.converged:
        warnings.append(f"Dawid and Skene's model did not converge in {fitted.iterations} steps.")
    models = [o.model for o in oracles]
    if len(set(models)) < len(models):
        warnings.append(
            "Some oracles are one model asked in several ways: they err alike, and Dawid and Skene's model, which "
            "takes errors as independent, trusts them too much."
        )
    X = np.where(fitted.known, fitted.votes, MISSING).astype(np.int8)
    found["Dawid-Skene"] = Oracle("Dawid-Skene", X, model="Dawid-Skene")
    return found, {o.name: fitted.confusion[k] for k, o in enumerate(oracles)}


def _figures(
    table: PreferenceTable, oracles: Sequence[Oracle], replicates: int, seed: int, cluster: str | None,
    reference: str | None, threads: int, say: Callable[[float], None],
) -> pl.DataFrame:  # fmt: skip
    bare = replace(table, annotators=tuple(a for a in table.annotators if a.kind != "rater"))

    def audited(oracle: Oracle) -> Audit:
        return audit(
            replace(bare, X=oracle.X, oracle=oracle.votes), replicates=0, splits=0, swaps=0, seed=seed,
            cluster=cluster, reference=reference, confidences=(), threads=threads, name=oracle.name,
        )  # fmt: skip

    if not bare.annotators:
        return pl.DataFrame()
    first = audited(oracles[0])
    parts = []
    for k, oracle in enumerate(oracles[1:]):
        moved = diff(first, audited(oracle), replicates=replicates, seed=seed, threads=threads)
        parts.append(moved.frame.with_columns(oracle=pl.lit(oracle.name)))
        say((k + 1) / len(oracles[1:]))
    return pl.concat(parts).select("oracle", pl.exclude("oracle"))


def _supremacies(
    table: PreferenceTable, oracles: Sequence[Oracle], weights: NDArray[np.float32], units: resampling.Units
) -> pl.DataFrame:
    """Return how the supremacies of each annotator move from the first oracle to each other one."""
    ranked = [a for a in table.annotators if a.kind != "rater"]
    labels = [a.dense(len(table)) for a in ranked]
    views = [View.hard(o.X, labels, units) for o in oracles]
    chunks = [weights[k : k + _AT_ONCE] for k in range(0, len(weights), _AT_ONCE)]
    drawn: list[list[tuple[Float, ...]]] = [[] for _ in oracles[1:]]
    for chunk in chunks:
        first = views[0].wins(chunk)
        for k, view in enumerate(views[1:]):
            drawn[k].append(_shift(first, view.wins(chunk)))
    rows = []
    first = views[0].wins()
    for k, (oracle, view) in enumerate(zip(oracles[1:], views[1:], strict=True)):
        point = _shift(first, view.wins())
        replicated = [np.concatenate([part[i] for part in drawn[k]]) for i in (0, 1)] if chunks else None
        for a, annotator in enumerate(ranked):
            for i, measure in enumerate(("mean shift", "other winner")):
                value = float(point[i][a])
                low = high = float("nan")
                if replicated is not None and np.isfinite(value):
                    bounds = resampling.envelope_interval(replicated[i][:, a : a + 1], np.array([value]))
                    low, high = float(bounds[0][0]), float(bounds[1][0])
                rows.append(
                    {
                        "oracle": oracle.name, "annotator": annotator.name, "measure": measure, "estimate": value,
                        "low": low, "high": high, "pairs": float(point[2][a]),
                    }
                )  # fmt: skip
    return pl.DataFrame(rows)


def _shift(one: Float, other: Float) -> tuple[Float, Float, Float]:
    """Return the mean shift of supremacies, the share of pairs with another winner, and the pairs, each (…, A)."""
    upper = np.triu_indices(one.shape[-1], 1)
    wins, losses, again, lost = (w[..., i, j] for w in (one, other) for i, j in (upper, upper[::-1]))
    games, replayed = wins + losses, again + lost
    both = (games > 0) & (replayed > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(wins / games - again / replayed)
    weight = np.where(both, np.minimum(games, replayed), 0.0)
    turned = both & ((wins - losses) * (again - lost) < 0)
    decided = both & (wins != losses) & (again != lost)
    with np.errstate(invalid="ignore"):
        mean = np.where(both, apart, 0.0) * weight
        return (
            mean.sum(axis=-1) / weight.sum(axis=-1),
            turned.sum(axis=-1) / decided.sum(axis=-1),
            both.sum(axis=-1).astype(np.float64),
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an oracle's errors."""

    oracle: Oracle
    source: str
    confusion: Float


def _confusions(oracles: Sequence[Oracle], labels: NDArray[np.int8] | None, fitted: dict[str, Float]) -> list[_Known]:
    found = []
    for oracle in oracles:
        if labels is not None:
            known = (labels != MISSING) & (oracle.X != MISSING)
            if known.any():
                truth, said = (np.where(known, v, 0).astype(np.int8) for v in (labels, oracle.X))
                found.append(_Known(oracle, "labels", confusion_from_labels(truth, said, known)))
        if oracle.name in fitted:
            found.append(_Known(oracle, "Dawid-Skene", fitted[oracle.name]))
    return found


def _confusion_frame(known: Sequence[_Known]) -> pl.DataFrame:
    rows = []
    for one in known:
        table = one.confusion if one.confusion.ndim == 2 else np.nanmean(one.confusion, axis=0)
        for i, truth in enumerate((-1, 0, 1)):
            for j, said in enumerate((-1, 0, 1)):
                rows.append(
                    {"oracle": one.oracle.name, "source": one.source, "truth": truth, "said": said,
                     "share": float(table[i, j])}
                )  # fmt: skip
    kinds = {"oracle": pl.String, "source": pl.String, "truth": pl.Int64, "said": pl.Int64, "share": pl.Float64}
    return pl.DataFrame(rows, schema=kinds)


def _corrected(
    table: PreferenceTable, oracles: Sequence[Oracle], labels: NDArray[np.int8] | None, known: Sequence[_Known],
    weights: NDArray[np.float32], units: resampling.Units, say: Callable[[float], None],
) -> pl.DataFrame:  # fmt: skip
    """Return the arbitrariness of each annotator as measured, and corrected for the oracle's errors.

    By the confusion only with the first oracle, which takes time; by people's labels with each.
    """
    rows: list[dict[str, object]] = []
    by_comparison = weights[:, units.codes].astype(np.float64)
    clusters = None if units.kind == "comparison" else units.codes
    whole = None if labels is None else np.flatnonzero((labels != MISSING).all(axis=1))
    audited = [a for a in table.annotators if a.kind != "rater"]
    for k, annotator in enumerate(audited):
        say(k / len(audited))
        y = annotator.dense(len(table))

        def add(oracle: Oracle, method: str, made: Estimate, name: str = annotator.name) -> None:
            rows.append(
                {"oracle": oracle.name, "annotator": name, "method": method, "estimate": made.rate, "se": made.se,
                 "low": made.low, "high": made.high, "n": made.n}
            )  # fmt: skip

        for one in known:
            if not np.isfinite(one.confusion).all():
                continue
            mask = one.oracle.X != MISSING
            made = correct_by_confusion(
                np.where(mask, one.oracle.X, 0).astype(np.int8), y, one.confusion, mask, weights=by_comparison
            )
            add(one.oracle, "as measured", made.naive)
            add(one.oracle, f"confusion ({one.source}), inverted", made.inverted)
            add(one.oracle, f"confusion ({one.source}), fitted", made.fitted)
        if whole is None or labels is None or not len(whole):
            continue
        decided = (y == 1) | (y == -1)
        _, people, _ = states(labels[whole])
        for oracle in oracles:
            _, direction, _ = states(oracle.X)
            made_too = prediction_powered(
                direction == -y, decided & (direction != 0), people == -y[whole], decided[whole] & (people != 0), whole,
                units=clusters,
            )  # fmt: skip
            add(oracle, "people alone", made_too.classical)
            add(oracle, "prediction-powered", made_too.powered)
    kinds = {"oracle": pl.String, "annotator": pl.String, "method": pl.String} | dict.fromkeys(
        ("estimate", "se", "low", "high", "n"), pl.Float64
    )
    return pl.DataFrame(rows, schema=kinds).unique(["oracle", "annotator", "method"], keep="first", maintain_order=True)


def _variance(
    judgements: pl.DataFrame | None, units: resampling.Units, weights: NDArray[np.float32], warnings: list[str]
) -> pl.DataFrame:
    kinds = {"source": pl.String} | dict.fromkeys(("share", "low", "high", "variance", "pairs"), pl.Float64)
    if judgements is None or not judgements.height:
        warnings.append("No oracle has probabilities: nothing can be said of where the variance comes from.")
        return pl.DataFrame(schema=kinds)
    principles = int(judgements["principle"].max()) + 1  # type: ignore[arg-type]
    row = judgements["row"].to_numpy()
    items = row * principles + judgements["principle"].to_numpy()
    factors = {
        name: judgements[name].cast(pl.String).rank("dense").cast(pl.Int64).to_numpy() - 1
        for name in ("oracle", "order", "template")
    }
    found: Components = components(
        judgements["value"].to_numpy(), items, factors, weights=weights[:_VARIANCE_REPLICATES], units=units.codes[row]
    )
    named = {"residual": "sampling and the rest"}
    return pl.DataFrame(
        {
            "source": [named.get(s, s) for s in found.sources], "share": found.share, "low": found.share_low,
            "high": found.share_high, "variance": found.variance, "pairs": found.pairs,
        },
        schema=kinds,
    )  # fmt: skip
