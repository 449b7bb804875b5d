"""Whole studies: from a study.toml, a folder, a wide table or AnnotatedPairs; and what they lack is said."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.audit import audit
from discretion.errors import (
    ColumnError,
    DataError,
    DiscretionError,
    IdError,
    ReadError,
    StudyError,
    VoteError,
)
from discretion.study import Study, load_study
from discretion.vote import MISSING

TOML = """
name = "mine"
description = "a study"
[comparisons]
path = "data/pairs.jsonl"
[constitution]
path = "rules.txt"
[oracle]
path = "oracle.csv"
minimum_mass = 0.4
[annotators]
rm = "rm.csv"
ann = {path = "ann.csv", format = "values"}
[settings]
seed = 7
reference = "chosen"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rows = [{"id": k, "prompt": p, "chosen": "a", "rejected": "b", "topic": p} for k, p in enumerate("xxy")]
    (tmp_path / "data/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rules.txt").write_text("Be kind.\nBe brief.\n")
    (tmp_path / "oracle.csv").write_text(
        "row_id,principle_id,order,prob_A,prob_B,prob_NA\n"
        + "".join(f"{k},{c},0,0.9,0.1,0\n" for k in range(3) for c in range(2))
    )
    (tmp_path / "rm.csv").write_text("row_id,reward_a,reward_b\n0,1,0\n1,0,1\n9,0,0\n")
    (tmp_path / "ann.csv").write_text("id,value\n0,second\n1,tie\n")
    (tmp_path / "study.toml").write_text(TOML)
    return tmp_path


def votes(study: Study) -> dict[str, list[int]]:
    return {a.name: a.dense(len(study.table)).tolist() for a in study.table.annotators}


def edit(folder: Path, old: str, new: str) -> Path:
    path = folder / "study.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_study_file(folder: Path) -> None:
    study = load_study(folder / "study.toml")
    assert (study.name, study.description, study.settings["seed"]) == ("mine", "a study", 7)
    assert votes(study) == {"chosen": [1, 1, 1], "rm": [1, -1, MISSING], "ann": [-1, 0, MISSING]}
    assert study.table.X.tolist() == [[1, 1]] * 3
    assert study.table.constitution.names == ("Be kind", "Be brief")
    assert study.table.oracle is not None
    assert study.table.oracle.minimum_mass == 0.4
    assert study.comparisons is not None
    assert study.table.attributes.columns == ["topic", "length_first", "length_second"]
    assert [(e.source, e.count) for e in study.table.exclusions] == [("rm", 1)]
    assert votes(load_study(folder)) == votes(study)


def test_further_annotators_come_last(folder: Path) -> None:
    rm, ann = str(folder / "rm.csv"), str(folder / "ann.csv")
    study = load_study(folder, annotators={"again": f"{rm}::reward", "more": ann})
    assert list(votes(study)) == ["chosen", "rm", "ann", "again", "more"]
    with pytest.raises(StudyError, match=r"'rewards' is no format\. Did you mean 'reward'"):
        load_study(folder, annotators={"x": f"{rm}::rewards"})
    with pytest.raises(StudyError, match="two annotators are named 'rm'"):
        load_study(folder, annotators={"rm": rm})
    with pytest.raises(StudyError, match="empty name"):
        load_study(folder, annotators={" ": rm})


def test_a_folder_by_its_names(folder: Path) -> None:
    (folder / "study.toml").unlink()
    (folder / "data/pairs.jsonl").rename(folder / "comparisons.jsonl")
    (folder / "rules.txt").rename(folder / "constitution.txt")
    (folder / "constitution_short.txt").write_text("kind\nbrief\n")
    (folder / "annotators").mkdir()
    for name in ("rm", "ann"):
        (folder / f"{name}.csv").rename(folder / f"annotators/{name}.csv")
    (folder / "raters.csv").write_text("comparison,rater,value\n0,u,1\n1,u,-1\n")
    study = load_study(folder)
    assert list(votes(study)) == ["chosen", "ann", "rm", "raters", "raters/u"]
    assert study.table.constitution.names == ("kind", "brief")
    (folder / "comparisons.csv").write_text("id,chosen,rejected\n0,a,b\n")
    with pytest.raises(StudyError, match=r"several files of comparisons.*comparisons\.csv"):
        load_study(folder)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('[oracle]\npath = "oracle.csv"\nminimum_mass = 0.4', "", "has no oracle.*Add .oracle."),
        ('[constitution]\npath = "rules.txt"', "", "has no constitution.*built_in"),
        ('[comparisons]\npath = "data/pairs.jsonl"', "", "has no comparisons.*Add .comparisons."),
        ("[settings]", "[setings]", "unknown key 'setings'.*'settings'"),
        ("minimum_mass", "minimum_mas", "unknown key 'minimum_mas' in .oracle.*'minimum_mass'"),
        ("format =", "formt =", r"unknown key 'formt' in annotators\.ann.*'format'"),
        ('"values"', '"value"', "'value'. Did you mean 'values'"),
        ("0.4", "2", "from 0 to 1"),
        ("0.4", "true", "from 0 to 1"),
        ('path = "rules.txt"', "path = 3", r"constitution\.path is 3"),
        ('path = "rules.txt"', 'path = "rules.txt"\nbuilt_in = "collective"', "both path and built_in"),
        ('path = "rules.txt"', 'built_in = "other"', "no built-in constitution 'other'"),
        ('rm = "rm.csv"', "rm = 3", r"annotators\.rm is 3"),
        ('rm = "rm.csv"', 'chosen = "rm.csv"', "two annotators are named 'chosen'"),
        ('rm = "rm.csv"', "rm = {}", "has no path"),
        ('reference = "chosen"', 'reference = "choosen"', "'choosen'.*'chosen'"),
        (
            "[annotators]",
            "[table]\npath='x'\nprinciples=['a']\n[annotators]",
            "which it replaces",
        ),
        ('path = "data/pairs.jsonl"', 'path = "data/pairs.jsonl"\ncluster = "topci"', "'topci'.*'topic'"),
        ('path = "data/pairs.jsonl"', 'path = "data/pairs.jsonl"\ncolumns = 3', "columns is 3"),
    ],
)
def test_what_a_study_file_gets_wrong(folder: Path, old: str, new: str, match: str) -> None:
    with pytest.raises(StudyError, match=match):
        load_study(edit(folder, old, new))


def test_what_is_no_study(folder: Path) -> None:
    with pytest.raises(ReadError, match="not TOML"):
        load_study(edit(folder, "[oracle]", "[oracle"))
    with pytest.raises(ReadError, match="cannot be read"):
        load_study(folder / "none.toml")
    with pytest.raises(StudyError, match="is no study"):
        load_study(folder / "rm.csv")
    (folder / "study.toml").write_text(TOML)
    with pytest.raises(ReadError, match=r"none\.csv: does not exist"):
        load_study(edit(folder, '"rm.csv"', '"none.csv"'))
    (folder / "empty").mkdir()
    with pytest.raises(StudyError, match="has no comparisons"):
        load_study(folder / "empty")


def test_an_annotator_of_other_comparisons_is_an_error(folder: Path) -> None:
    (folder / "rm.csv").write_text("row_id,reward_a,reward_b\n77,1,0\n")
    with pytest.raises(IdError, match="none of its 1"):
        load_study(folder)


def test_clusters(folder: Path) -> None:
    study = load_study(edit(folder, 'pairs.jsonl"', 'pairs.jsonl"\ncluster = "prompt"'))
    assert study.cluster == "prompt"
    codes = study.table.cluster_codes("prompt")
    assert codes is not None
    assert codes[0] == codes[1] != codes[2]
    study = load_study(edit(folder, 'cluster = "prompt"', 'cluster = "topic"'))
    assert study.table.cluster_codes(study.cluster) is not None


def test_one_order_is_warned_of_where_it_matters(folder: Path) -> None:
    def warnings() -> tuple[str, ...]:
        return audit(load_study(folder).table, replicates=0).warnings

    assert any("confounded with chosen's choice" in text and "shown first" in text for text in warnings())
    both = (folder / "oracle.csv").read_text().splitlines()
    swapped = [line.split(",") for line in both[1:]]
    more = [",".join([c, p, "1", b, a, n]) for c, p, _, a, b, n in swapped]
    (folder / "oracle.csv").write_text("\n".join([*both, *more]) + "\n")
    assert not any("confounded" in text for text in warnings())


def test_pku_annotators_come_first(folder: Path) -> None:
    rows = [
        {
            "response_0": "a",
            "response_1": "b",
            "prompt": "p",
            "better_response_id": k % 2,
            "safer_response_id": 0,
        }
        for k in range(3)
    ]
    (folder / "data/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = load_study(edit(folder, 'reference = "chosen"', ""))
    assert list(votes(study)) == ["better", "safer", "rm", "ann"]


WIDE = """
[table]
path = "w.{}"
id = "key"
principles = ["kind", "brief"]
annotators = ["ann"]
attributes = ["t"]
"""


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_wide_table(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"key": [5, 6], "kind": [1, None], "brief": [0, -1], "ann": [-1, 1], "t": ["u", "v"]})
    getattr(frame, {"jsonl": "write_ndjson"}.get(suffix, f"write_{suffix}"))(tmp_path / f"w.{suffix}")
    (tmp_path / "more.csv").write_text("id,value\n6,1\n")
    (tmp_path / "study.toml").write_text(WIDE.format(suffix) + '[annotators]\nmore = "more.csv"\n')
    study = load_study(tmp_path)
    assert study.comparisons is None
    assert study.table.X.tolist() == [[1, 0], [MISSING, -1]]
    assert votes(study) == {"ann": [-1, 1], "more": [MISSING, 1]}
    assert study.table.attributes["t"].to_list() == ["u", "v"]
    assert study.table.ids.dtype == (pl.String if suffix == "csv" else pl.Int64)


def test_what_a_wide_table_gets_wrong(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(WIDE.format("csv"))
    wide = tmp_path / "w.csv"
    wide.write_text("key,kind,brief,ann,t\n1,1,0,1,x\n2,1,3,1,x\n")
    with pytest.raises(VoteError, match="row 2, column 'brief': is '3'"):
        load_study(tmp_path)
    wide.write_text("key,kind,brief,ann,t\n1,1,0,1,x\n1,1,0,1,x\n")
    with pytest.raises(IdError, match="rows 1, 2"):
        load_study(tmp_path)
    wide.write_text("key,kind,ann,t\n1,1,1,x\n")
    with pytest.raises(ColumnError, match="no column 'brief'"):
        load_study(tmp_path)
    (tmp_path / "study.toml").write_text(WIDE.format("parquet"))
    (tmp_path / "w.parquet").write_bytes(b"PAR1xxxxxxxxxxPAR1")
    with pytest.raises(DataError):
        load_study(tmp_path)
    (tmp_path / "study.toml").write_text('[table]\npath = "w.csv"\n')
    with pytest.raises(StudyError, match="names no principles"):
        load_study(tmp_path)


@settings(max_examples=100)
@given(at=st.integers(0, len(TOML) - 1), put=st.sampled_from(["", "x", '"', "[", "=", "\n", "\0", "é", "3"]))
def test_mutated_study_files_raise_only_our_errors(folder: Path, at: int, put: str) -> None:
    (folder / "study.toml").write_text(TOML[:at] + put + TOML[at + 1 :])
    try:
        load_study(folder)
    except DiscretionError:
        return


@pytest.mark.shared
def test_annotated_pairs_are_a_whole_study(shared: Path) -> None:
    study = load_study(shared / "data/interchange/annotated_pairs.json")
    assert list(votes(study)) == ["preferred_text"]
    assert study.table.X.shape == (1, 40)


@pytest.mark.shared
def test_the_public_hh_files_as_a_study(shared: Path, tmp_path: Path) -> None:
    hh, principles = shared / "data/hh", shared / "data/principles"
    (tmp_path / "study.toml").write_text(
        f'[comparisons]\npath = "{hh}/harmless-base-test.jsonl.gz"\n[constitution]\npath = "{principles}/'
        f'ccai_seed.txt"\n[oracle]\npath = "{hh}/hh_test_seed_4ob.csv.gz"\n[annotators]\n'
        f'gpt = "{hh}/hh_test_generic_4ob.csv"\n'
    )
    study = load_study(tmp_path)
    assert study.table.annotator_names == ("human", "gpt")
    assert study.table.X.shape == (2312, 21)
