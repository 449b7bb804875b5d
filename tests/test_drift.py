"""Drift: planted changes are found, steady raters are let be, and who joined late is no drift."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.stats
from rich.console import Console

from discretion.audit import Audit, audit
from discretion.drift import drift
from discretion.errors import EmptyError
from discretion.rater_labels import ARBITRARINESS
from discretion.simulate import Raters, Voter, World
from discretion.table import Annotator, PreferenceTable
from discretion.terminal_drift import show_drift

DAY = 86400.0


def drifting(*, tired: int = 0, late: float = 0.45, seed: int = 0, count: int = 60, each: int = 200) -> Audit:
    """Raters with labels at random times; the second half of the first `tired` ones' is noisier."""
    rng = np.random.default_rng(seed)
    people = Raters(count, each, (Voter("people", (1.0, 0.0, -1.0), 0.08),))
    table = World(("help", "harm", "honest"), active=0.6, together=0.85, raters=people).draw(1500, seed).table
    changed = []
    for k, a in enumerate(table.annotators):
        if a.kind == "rater":
            times = 1.7e9 + DAY * np.sort(rng.uniform(k, k + 30, len(a.values)))  # later ones join later
            shuffle = rng.permutation(len(times))
            times = times[shuffle]
            values = a.values
            if int(a.name[1:]) < tired:
                worse = (times > np.median(times)) & (rng.random(len(times)) < late)
                values = np.where(worse, -values, values).astype(np.int8)
            a = replace(a, values=values, times=times)
        changed.append(a)
    return _audited(replace(table, annotators=tuple(changed)))


def _audited(table: PreferenceTable) -> Audit:
    return audit(table, replicates=0, splits=0, swaps=0)


def test_planted_drift_is_found() -> None:
    found = drift(drifting(tired=8))
    mine = found.frame.filter(pl.col("measure") == ARBITRARINESS)
    flags = mine["flag"].to_list()
    assert flags[:8].count("up") >= 7
    assert sum(f != "" for f in flags[8:]) <= 1
    (common,) = found.common.filter(pl.col("measure") == ARBITRARINESS).to_dicts()
    assert common["change"] > 0.02
    assert common["p"] < 0.001
    assert common["low"] > 0


def test_steady_raters_are_let_be() -> None:
    """Over ten studies hardly anybody is flagged, and the common test is about uniform."""
    flags, small = 0, 0
    for seed in range(10):
        found = drift(drifting(seed=seed, count=40, each=80))
        flags += found.flagged.height
        small += int((found.common["p"] < 0.05).sum())
    assert flags <= 4
    assert small <= 5  # of thirty


def test_the_tests_are_the_textbooks() -> None:
    found = drift(drifting(tired=3))
    row = found.frame.filter(pl.col("measure") == ARBITRARINESS).row(0, named=True)
    a, n, b, m = (row[k] for k in ("early_count", "early_n", "late_count", "late_n"))
    less = scipy.stats.fisher_exact([[b, m - b], [a, n - a]], "less").pvalue
    greater = scipy.stats.fisher_exact([[b, m - b], [a, n - a]], "greater").pvalue
    assert row["p"] == pytest.approx(min(1.0, 2 * min(less, greater)), rel=1e-9)
    assert row["change"] == pytest.approx(b / m - a / n)


def test_labels_of_one_moment_stay_together_and_unknown_times_stand_aside() -> None:
    made = drifting(count=5, each=50)
    raters = [a for a in made.table.annotators if a.kind == "rater"]
    assert raters[1].times is not None
    same = replace(raters[0], times=np.full(50, 1.7e9))
    unknown = replace(raters[1], times=np.where(np.arange(50) < 20, np.nan, raters[1].times))
    table = replace(made.table, annotators=(same, unknown, *raters[2:]))
    found = drift(_audited(table)).frame
    rows = found.filter((pl.col("measure") == "prefers neither") & pl.col("rater").is_in([same.name, unknown.name]))
    assert rows["early_n"].to_list() == [0.0, 15.0]
    assert rows["late_n"].to_list() == [50.0, 15.0]
    assert rows["p"].is_nan().all()
    timeless = replace(table, annotators=tuple(replace(a, times=None) for a in table.annotators))
    with pytest.raises(EmptyError, match="no times"):
        drift(_audited(timeless))


def test_periods_hold_every_label_once() -> None:
    made = drifting(count=12)
    found = drift(made, periods=4).periods.filter(pl.col("measure") == "prefers neither")
    assert found["n"].sum() == sum(a.labelled for a in made.table.annotators if a.kind == "rater")
    assert found["start"].to_list()[1:] == found["end"].to_list()[:-1]
    assert found.height == 4


def blocks(seed: int, *, count: int, talks: int = 30, of: int = 3, shift: float = 0.0) -> PreferenceTable:
    """Raters whose conversations of `of` comparisons are one choice each: all its labels alike, at about one time."""
    rng = np.random.default_rng(seed)
    n = count * talks * of
    talk = np.repeat(np.arange(count * talks), of)
    raters = []
    for k in range(count):
        order = rng.permutation(talks)
        rate = np.where(order >= talks / 2, 0.4 + shift, 0.4)
        against = np.repeat(rng.random(talks) < rate, of)
        rows = np.arange(k * talks * of, (k + 1) * talks * of)
        times = 1.7e9 + DAY * np.repeat(order, of) + np.tile(np.arange(of), talks)
        values = np.where(against, -1, 1).astype(np.int8)
        raters.append(Annotator(f"r{k}", values, rows.astype(np.int32), kind="rater", times=times))
    made = PreferenceTable.from_arrays(
        np.ones((n, 1), np.int8), {"people": np.ones(n, np.int8)}, attributes={"talk": [f"t{t}" for t in talk]}
    )
    return made.with_annotators(*raters)


def _rates(studies: int, cluster: str | None, **how: float) -> tuple[int, int]:
    """In how many studies somebody is flagged, and in how many the common test is below 5 %."""
    flagged = small = 0
    for seed in range(studies):
        made = audit(blocks(seed, count=20, **how), replicates=0, splits=0, swaps=0, cluster=cluster)
        found = drift(made)
        flagged += int(found.frame.filter((pl.col("measure") == ARBITRARINESS) & (pl.col("flag") != "")).height > 0)
        small += int(found.common.filter(pl.col("measure") == ARBITRARINESS)["p"].item() < 0.05)
    return flagged, small


@pytest.mark.slow
def test_a_choice_that_is_told_three_times_is_one_choice() -> None:
    """Raters who change in nothing: with their conversations as clusters hardly a flag, without (the control) many."""
    flagged, small = _rates(60, "talk")
    assert flagged <= 6
    assert small <= 8
    flagged, small = _rates(20, None)
    assert flagged >= 12
    assert small >= 4


@pytest.mark.slow
def test_clusters_leave_planted_drift_to_be_found() -> None:
    flagged, small = _rates(6, "talk", shift=0.45)
    assert flagged >= 5
    assert small == 6


def test_clusters_of_one_label_change_nothing_but_the_rounding_of_chance() -> None:
    made = drifting(tired=3, count=12)
    alone = made.table.attributes.with_columns(pl.Series("own", range(len(made.table))))
    each = audit(replace(made.table, attributes=alone), replicates=0, splits=0, swaps=0, cluster="own")
    one, other = drift(made), drift(each)
    assert one.common.equals(other.common, null_equal=True)
    assert other.frame["early_clusters"].to_list() == other.frame["early_n"].to_list()
    p, q = (f.frame.filter(pl.col("measure") == ARBITRARINESS)["p"].to_numpy() for f in (one, other))
    np.testing.assert_allclose(p, q, atol=0.08)
    assert drift(each).frame.equals(other.frame, null_equal=True)  # a seed of its own


def test_the_terminal_shows_rates_that_agree_with_the_change() -> None:
    """Raters of unequal halves and rates: pooled, the rates would differ by something else than the change."""
    rng = np.random.default_rng(0)
    made = drifting(tired=4, count=12)
    changed = []
    for a in made.table.annotators:
        if a.kind == "rater" and a.times is not None:
            times = np.where(rng.random(len(a.times)) < int(a.name[1:]) / 14, 1.0, a.times)
            a = replace(a, times=times)
        changed.append(a)
    found = drift(_audited(replace(made.table, annotators=tuple(changed))))
    row = found.common.filter(pl.col("measure") == ARBITRARINESS).row(0, named=True)
    assert row["late_standardised"] - row["early_standardised"] == pytest.approx(row["change"])
    assert row["late"] - row["early"] != pytest.approx(row["change"], abs=1e-3)
    out = io.StringIO()
    show_drift(found, Console(file=out, width=80))
    line = next(x for x in out.getvalue().splitlines() if x.strip().startswith(ARBITRARINESS)).split()
    assert float(line[2]) - float(line[1]) == pytest.approx(float(line[3]), abs=0.11)
    assert line[1] == f"{100 * row['early_standardised']:.1f}"
