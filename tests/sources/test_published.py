"""The published HH study, whole or in part, and its figures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from discretion.errors import ReadError, StudyError
from discretion.sources.published import PUBLISHED, PUBLISHED_STATES, published_hh
from discretion.table import PreferenceTable


def arbitrariness(table: PreferenceTable, name: str) -> float:
    """The share, in per cent, of the decided consensus comparisons in which it goes against the consensus."""
    plus, minus = (table.X == 1).any(axis=1), (table.X == -1).any(axis=1)
    y = table.annotator(name).values
    decided = (plus ^ minus) & np.isin(y, [1, -1])
    return 100 * float((y[decided] != np.where(plus, 1, -1)[decided]).mean())


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["data", "data/hh"])
def test_the_published_arbitrariness(shared: Path, folder: str) -> None:
    found = published_hh(shared / folder)
    table = found.table
    expected = {"human": 28.92, "Llama-3 RM": 21.8, "GPT-4o": 0.65, "Llama-3 fine-tuned": 67.3}
    assert table.annotator_names == tuple(expected)
    assert arbitrariness(table, "human") == pytest.approx(28.92, abs=0.005)
    for row in PUBLISHED:
        if row.name in expected:  # the printed figures are bootstrap means, off the estimate by some hundredths
            assert arbitrariness(table, row.name) == pytest.approx(row.arbitrariness, abs=0.1)
    assert len(found.missing) == 7
    assert table.constitution.names[0] == "Be helpful"
    assert len(found.comparisons) == len(table) == 2312


@pytest.mark.shared
def test_a_folder_as_published_and_without_its_principles(shared: Path, tmp_path: Path) -> None:
    for source, target in {
        "harmless-base-test.jsonl.gz": "harmless-base/test.jsonl.gz",
        "hh_test_seed_4ob.csv.gz": "principle_specific_preferences/hh_test_seed_4ob.csv.gz",
        "hh_test_generic_4ob.csv": "llm_preferences/hh_test_generic_4ob.csv",
    }.items():
        (tmp_path / target).parent.mkdir(exist_ok=True)
        shutil.copy(shared / "data/hh" / source, tmp_path / target)
    pointer = tmp_path / PUBLISHED[-1].file
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    found = published_hh(tmp_path)
    assert found.table.annotator_names == ("human", "GPT-4o")
    assert found.table.constitution.name == "collective"
    assert {PUBLISHED[-1].file, "principles/ccai_seed.txt"} <= set(found.missing)


def test_a_folder_without_the_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"test\.jsonl\.gz.*download"):
        published_hh(tmp_path)
    with pytest.raises(ReadError, match="no folder"):
        published_hh(tmp_path / "none")


def test_the_table_is_the_published_one() -> None:
    assert len({row.name for row in PUBLISHED}) == len(PUBLISHED) == 11
    assert sum(PUBLISHED_STATES.values()) == pytest.approx(100)
    assert all(row.file and row.format for row in PUBLISHED[1:])
