"""What comparisons are cut by: values, numbers by quarters, dates by the finest period that leaves few, lengths."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.comparison import Comparisons
from discretion.errors import ColumnError
from discretion.segment_values import NONE, Cut, attributes_of, cut

from .studies import votes_table

START = date(2026, 1, 30)


def days(n: int, step: int = 1) -> list[date]:
    return [START + timedelta(days=k * step) for k in range(n)]


def bare(attributes: pl.DataFrame, comparisons: Comparisons | None = None) -> Audit:
    table = replace(votes_table(attributes.height or 120), attributes=attributes)
    return audit(table, replicates=0, splits=0, swaps=0, confidences=(), comparisons=comparisons)


def named(made: Cut) -> list[str]:
    return [made.names[k] for k in made.codes]


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        (days(20), "week", ["2026-W05", "2026-W06", "2026-W07", "2026-W08"]),
        (days(40, 4), "month", ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05", "2026-06", "2026-07"]),
        (days(60, 30), "year", ["2026", "2027", "2028", "2029", "2030"]),
        (days(40, 14), "quarter", ["2026-Q1", "2026-Q2", "2026-Q3", "2026-Q4", "2027-Q1", "2027-Q2", "2027-Q3"]),
    ],
)  # fmt: skip
def test_dates_by_the_finest_period_that_leaves_few(values: list[date], kind: str, names: list[str]) -> None:
    moments = [datetime(d.year, d.month, d.day, 23, 5, tzinfo=UTC) for d in values]
    seconds = [m.timestamp() for m in moments]
    forms = [
        pl.Series("when", values), pl.Series("when", [d.isoformat() for d in values]), pl.Series("when", moments),
        pl.Series("when", [m.isoformat() for m in moments]), pl.Series("timestamp", seconds),
        pl.Series("time", [int(1000 * s) for s in seconds]), pl.Series("date", [int(f"{d:%Y%m%d}") for d in values]),
    ]  # fmt: skip
    made = [cut(form) for form in forms]
    for one in made:
        assert (one.kind, one.names, one.ordered) == (kind, made[0].names, True)
        assert (one.codes == made[0].codes).all()
    assert list(made[0].names[: len(names)]) == names
    assert len(made[0].names) <= 12


def test_days_and_few_texts_stand_for_themselves() -> None:
    few = [START + timedelta(days=k % 3) for k in range(30)]
    assert cut(pl.Series("day", few)).names == ("2026-01-30", "2026-01-31", "2026-02-01")
    texts = cut(pl.Series("day", [f"{d}" for d in few]))
    assert (texts.kind, texts.ordered) == ("value", True)
    hours = [datetime(2026, 1, 30, 8, k) for k in range(30)]
    assert len(cut(pl.Series("time", hours)).names) == 30  # one day: no period tells them apart


def test_what_only_looks_like_dates_is_none() -> None:
    assert cut(pl.Series("when", [*map(str, days(20)), "never"])).kind == "value"
    assert cut(pl.Series("score", [1.7e9 + 1e6 * k for k in range(40)])).kind == "range"
    assert cut(pl.Series("when", [*days(20), None])).names[-1] == NONE
    assert cut(pl.Series("nothing", [None, None], dtype=pl.String)).names == (NONE,)


def test_numbers_by_quarters_in_their_order() -> None:
    rng = np.random.default_rng(0)
    whole = cut(pl.Series("n", rng.permutation(np.arange(1, 1201))))
    assert whole.names == ("≤ 300", "301 … 600", "601 … 900", "> 900")
    assert np.bincount(whole.codes).tolist() == [300] * 4
    real = cut(pl.Series("x", [*(k / 7 for k in range(99)), None, float("nan")]))
    assert real.names[-1] == NONE
    assert np.bincount(real.codes)[-1] == 2
    same = cut(pl.Series("x", [1e6 + k * 1e-3 for k in range(100)]))
    assert len(set(same.names)) == 4
    skewed = cut(pl.Series("n", [0] * 90 + list(range(1, 31))))
    assert skewed.names[0] == "≤ 0"
    assert cut(pl.Series("n", [10, 9, 2, 10])).names == ("2", "9", "10")
    assert cut(pl.Series("flag", [True, False, None])).names == ("false", "true", NONE)
    with pytest.raises(ColumnError, match="tags"):
        cut(pl.Series("tags", [["a"], ["b"]]))


def test_length_comes_from_the_attributes_or_the_texts() -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.integers(1, 90, 120) for _ in range(2))
    texts = Comparisons(
        pl.DataFrame(
            {"id": [f"c{k}" for k in range(120)], "prompt": ["?"] * 120, "first": ["x" * n for n in first.tolist()],
             "second": ["y" * n for n in second.tolist()]}
        )
    )  # fmt: skip
    lengths = pl.DataFrame({"length_first": first, "length_second": second})
    backwards = Comparisons(texts.frame.reverse())
    made = [attributes_of(bare(lengths)), attributes_of(bare(pl.DataFrame(), texts)),
            attributes_of(bare(pl.DataFrame(), backwards))]  # fmt: skip
    for found in made:
        both, apart = found["length"](), found["length difference"]()
        assert both.names == made[0]["length"]().names
        assert (both.codes == made[0]["length"]().codes).all()
        assert len(both.names) == len(apart.names) == 4
        assert apart.names[0].endswith("%")
        total = first + second
        assert all(total[both.codes == k].max() < total[both.codes == k + 1].min() for k in range(3))
    assert "length" not in attributes_of(bare(pl.DataFrame({"topic": ["x"] * 120})))
    own = attributes_of(bare(lengths.with_columns(length=pl.Series(["short"] * 60 + ["long"] * 60))))
    assert own["length"]().names == ("long", "short")
