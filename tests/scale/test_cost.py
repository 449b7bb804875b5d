"""The cost model: it counts what a tally really holds, and grows as the work does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from discretion.errors import StudyError
from discretion.scale.cost import MEASURED, cost
from discretion.scale.partitions import Columns
from discretion.scale.tally import Dealing, tallies, tally

from ..studies import votes_table


@pytest.mark.parametrize("rows", [3_000, 100_000])
def test_the_bytes_of_a_tally_are_those_that_are_sent(rows: int) -> None:
    frame = votes_table(rows).to_frame()
    made = tally(frame, Columns.of(frame.schema), Dealing(256, 1)).pack()
    wrapping = 8 * 256 + 1500  # the units' numbers, and the names of the arrays
    assert 0 <= len(made) - cost(rows, 4, 2, units=256).bytes_tally < wrapping


def test_groups_cost_what_they_hold() -> None:
    frame = votes_table(3_000).to_frame()
    made = tallies(frame, Columns.of(frame.schema, by=["topic"]), Dealing(256, 1))
    expected = cost(3_000, 4, 2, units=256, groups=2)
    held = sum(part.counts.nbytes for part in made.values())
    assert 0.98 < held / expected.bytes_tally <= 1  # some units have rows of one group only
    alone = cost(3_000, 4, 2, units=256)
    assert expected.seconds_core > alone.seconds_core
    assert expected.bytes_driver == alone.bytes_driver * 4 / 3  # a sum more, and one as floats at a time
    few, many = (cost(1_000_000_000, 21, 5, rows=4_000_000, groups=groups) for groups in (1, 8))
    assert 4 <= many.bytes_sent / few.bytes_sent <= 8


def test_a_billion_comparisons_grow_as_a_million() -> None:
    million, billion = (cost(n, 21, 5) for n in (1_000_000, 1_000_000_000))
    assert billion.partitions == 1000
    assert cost(1_000_000_000, 21, 5, rows=10_000_000).bytes_sent < 0.2 * billion.bytes_sent
    for name in ("bytes_read", "bytes_sent", "seconds_core", "seconds_driver"):
        assert getattr(billion, name) == pytest.approx(1000 * getattr(million, name))
    assert billion.bytes_driver == million.bytes_driver  # what is held does not grow


def test_cores_help_until_the_driver_or_the_files_are_the_limit() -> None:
    seconds = [cost(1_000_000_000, 21, 5, cores=cores).seconds for cores in (1, 10, 100, 1000, 10_000)]
    assert np.all(np.diff(seconds) <= 0)
    assert seconds[0] / seconds[1] == pytest.approx(10, rel=0.1)
    last = cost(1_000_000_000, 21, 5, cores=10_000)
    assert last.seconds >= MEASURED.start + last.seconds_driver
    few = cost(10_000_000, 21, 5, cores=16)  # ten files keep ten cores busy
    assert few.seconds == pytest.approx(cost(10_000_000, 21, 5, cores=10).seconds)


def test_small_files_cost_more_and_rates_scale() -> None:
    large, small = (cost(100_000_000, 21, 5, rows=rows) for rows in (1_000_000, 10_000))
    assert small.seconds_core > 1.5 * large.seconds_core
    assert small.bytes_sent > 40 * large.bytes_sent
    slow = replace(MEASURED, **{name: 2 * getattr(MEASURED, name) for name in MEASURED.__slots__})
    assert cost(1_000_000, 21, 5, rates=slow).seconds == pytest.approx(2 * cost(1_000_000, 21, 5).seconds)


def test_nothing_has_no_cost() -> None:
    with pytest.raises(StudyError, match="1 or more"):
        cost(0, 21, 5)
