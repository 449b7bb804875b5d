"""Drift: planted changes are found, steady raters are let be, and who joined late is no drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.stats

from discretion.audit import Audit, audit
from discretion.drift import drift
from discretion.errors import EmptyError
from discretion.rater_labels import ARBITRARINESS
from discretion.simulate import Raters, Voter, World
from discretion.table import PreferenceTable

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
