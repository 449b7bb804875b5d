"""What judging costs: what it counts is what is asked, and the driver's share is told apart."""

from __future__ import annotations

import os

import pytest

from discretion.errors import StudyError
from discretion.journal import Journal
from discretion.judges.asking import Judgement
from discretion.scale.judging_cost import MEASURED, judging_cost
from discretion.scale.parts import packed


def test_ten_million_comparisons_are_gpu_hours_and_a_driver_that_keeps_up() -> None:
    made = judging_cost(10_000_000, 21, rate=1000, workers=8)
    assert made.judgements == 420_000_000
    assert made.worker_hours == pytest.approx(116.7, rel=0.01)
    assert made.seconds_asking / 3600 == pytest.approx(14.6, rel=0.01)
    assert made.seconds_merging < made.seconds_driver < made.seconds_asking
    assert made.seconds == pytest.approx(made.seconds_asking, abs=MEASURED.start)
    many = judging_cost(10_000_000, 21, rate=1000, workers=800)
    assert many.seconds == MEASURED.start + many.seconds_driver  # which more GPUs do not shorten
    assert many.bytes_journal == made.bytes_journal > 1e10


def test_smaller_blocks_risk_less_and_cost_the_driver_more() -> None:
    small, large = (judging_cost(100_000, 21, rate=50, workers=10, block=block) for block in (4, 64))
    assert (small.twice, large.twice) == (1680, 26_880)
    assert small.seconds_driver > large.seconds_driver
    assert small.bytes_parts < large.bytes_parts
    assert judging_cost(3, 1, orders=1, rate=1.0, workers=9).twice == 3


def test_bytes_are_those_of_a_journal_and_of_a_part(tmp_path) -> None:
    rows = [
        Judgement(os.urandom(16), f"comparison-{k // 42}", f"Principle number {k % 21}.", k % 2, 0, 0.7, 0.2, 0.1,
                  reply="A", tokens_in=300, tokens_cached=0, tokens_out=1, cost=0.001, seconds=0.1,
                  at="2026-01-01T12:00:00+00:00")
        for k in range(20_000)
    ]  # fmt: skip
    with Journal.open(tmp_path / "journal") as journal:
        journal.record(journal.judge({"kind": "x"}, "x"), rows)
    size = (tmp_path / "journal").stat().st_size
    assert size / len(rows) == pytest.approx(MEASURED.journalled, rel=0.3)
    assert len(packed("x", {"kind": "x"}, rows[:168])) / 168 == pytest.approx(MEASURED.in_part, rel=0.3)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"block": 0}, {"rate": 0.0}, {"rate": float("nan")}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(StudyError, match="Expected 1 or more"):
        judging_cost(10, 3, **({"rate": 1.0} | wrong))
