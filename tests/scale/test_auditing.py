"""Audits of partitions: the cut, the engine, the number of nodes and a node that leaves change no bit."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import discretion
from discretion.errors import ColumnError, DataError, EmptyError, IdError, ReadError, StudyError, VoteError
from discretion.metrics.counts import Counter
from discretion.metrics.resampling import Units
from discretion.scale.auditing import FIGURES, PartitionedAudit, audit_partitions
from discretion.scale.groups import GROUPED, ordered
from discretion.scale.partitions import MOST_GROUPS, Columns, deal, write_partitions
from discretion.scale.places import find, pieces_of, public, without_keys
from discretion.scale.tally import Dealing, Tally, pack, tally, total, unpack
from discretion.table import Annotator, PreferenceTable
from discretion.terminal_groups import show_groups
from discretion.vote import MISSING

from ..studies import environment, votes_table

SHARES = ("states", "principles", "responses", "arbitrariness", "supremacy")
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIANEVERSEEN77",
    "AWS_SECRET_ACCESS_KEY": "never/to+be-seen-77",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NODE = {"num_cpus": 1, "object_store_memory": 200_000_000}


def on_ray(test: Any) -> Any:
    """Tests on one cluster that starts as one node, in the order in which they stand."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")(test))


def same(one: PartitionedAudit, two: PartitionedAudit) -> bool:
    return all(getattr(one, name).equals(getattr(two, name), null_equal=True) for name in (*FIGURES, *GROUPED))


@pytest.fixture(scope="module")
def table() -> PreferenceTable:
    found = votes_table(2400, 4, arbitrary={"people": 0.1, "model": 0.3, "copy": 0.1})
    partly = found.annotator("model").values.copy()
    partly[::5] = MISSING
    return found.with_annotators(Annotator("partly", partly))


@pytest.fixture(scope="module")
def folder(table: PreferenceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_partitions(table, tmp_path_factory.mktemp("votes") / "cut", 200)


@pytest.fixture(scope="module")
def here(folder: Path) -> PartitionedAudit:
    return audit_partitions(folder, replicates=60, splits=20, seed=5, threads=1)


def test_the_cut_between_files_changes_no_bit(table: PreferenceTable, here: PartitionedAudit, tmp_path: Path) -> None:
    for rows in (97, 2400):
        cut = write_partitions(table, tmp_path / str(rows), rows)
        assert same(audit_partitions(cut, replicates=60, splits=20, seed=5, threads=1), here)
    mixed = write_partitions(table.subset(np.random.default_rng(0).permutation(2400)), tmp_path / "mixed", 500)
    assert same(audit_partitions(mixed, replicates=60, splits=20, seed=5, threads=1), here)
    # Negative control: another seed deals and draws anew, and the data stay what they are.
    other = audit_partitions(mixed, replicates=60, splits=20, seed=6, threads=1)
    assert not same(other, here)
    assert other.states["estimate"].equals(here.states["estimate"])


def test_tallies_add_up_to_the_counts_of_the_whole_table(table: PreferenceTable) -> None:
    frame = table.to_frame()
    columns, dealing = Columns.of(frame.schema), Dealing(64, 12345)
    pieces = [tally(piece, columns, dealing) for piece in frame.iter_slices(61)]
    found = total([{"": piece} for piece in pieces], columns, dealing).view
    together = total([{"": reduce(Tally.plus, pieces)}], columns, dealing).view
    counter = Counter(table.X, Units(deal(frame["id"], 64, 12345), 64, "block", len(table)))
    whole = [counter.principles(), *(counter.annotator(y) for y in table.Y.T)]
    for view in (found, together):
        for ours, direct in zip([view.principles, *view.annotators], whole, strict=True):
            for name, counts in vars(direct).items():
                dense = counts if isinstance(counts, np.ndarray) else counts.toarray()
                assert np.array_equal(getattr(ours, name), dense), name


def test_points_equal_those_of_an_audit_and_intervals_nearly(table: PreferenceTable, here: PartitionedAudit) -> None:
    whole = discretion.audit(table, replicates=60, splits=20, seed=5, threads=1)
    for name in (*SHARES, "priority", "discrepancy", "differences", "floor"):
        ours, theirs = getattr(here, name), getattr(whole, name)
        assert ours.columns == theirs.columns
        for column in ("estimate", "count", "n", "logit", "rank", "pairs", "common", "games"):
            if column in ours.columns:
                assert ours[column].equals(theirs[column]), (name, column)
    # Without clusters a share is binomial, and its interval asks for no units.
    for name in SHARES:
        assert getattr(here, name).select("se", "low", "high").equals(getattr(whole, name).select("se", "low", "high"))
    ratio = (here.priority["se"] / whole.priority["se"]).to_numpy()
    assert np.all((ratio > 0.6) & (ratio < 1.6))
    assert here.settings.reference == whole.settings.reference


def test_units_are_dealt_evenly_and_the_same_for_ever() -> None:
    ids = pl.Series([f"c{k}" for k in range(20_000)])
    codes = deal(ids, 50, 7)
    sizes = np.bincount(codes, minlength=50)
    chi2 = ((sizes - 400) ** 2 / 400).sum()
    assert 22 < chi2 < 87  # the 0.1 % tails of 49 degrees of freedom: neither uneven nor arranged
    assert np.array_equal(deal(ids[::-1], 50, 7), codes[::-1])
    moved = deal(ids, 50, 8) != codes
    assert 0.97 < moved.mean() < 0.99
    assert deal(pl.Series(["", "a", "ä", "ab", "ba"]), 1000, 1).tolist() == [535, 966, 131, 585, 408]


def test_clusters_are_dealt_as_wholes(tmp_path: Path) -> None:
    """Thirty answers to each of 100 prompts that share their votes: as little is known as from 100 comparisons."""
    small = votes_table(100, 1)
    rows = np.repeat(np.arange(100), 30)
    table = PreferenceTable.from_arrays(
        small.X[rows],
        {"people": small.Y[rows, 0]},
        principles=small.constitution.names,
        attributes={"prompt": rows.tolist()},
    )
    folder = write_partitions(table, tmp_path / "votes", 450)  # cuts through prompts
    options = {"replicates": 200, "splits": 0, "swaps": 0, "threads": 1}
    clustered = audit_partitions(folder, cluster="prompt", **options)
    alone = audit_partitions(folder, **options)
    whole = discretion.audit(table, cluster="prompt", **options)
    assert clustered.states["estimate"].equals(alone.states["estimate"])
    assert clustered.states["se"].to_numpy()[:2] == pytest.approx(
        np.sqrt(30) * alone.states["se"].to_numpy()[:2], rel=0.1
    )
    assert clustered.states["se"].to_numpy() == pytest.approx(whole.states["se"].to_numpy(), rel=0.1)
    assert 90 <= clustered.settings.units <= 100


def test_pairs_with_the_same_comparisons_are_tested(here: PartitionedAudit) -> None:
    tests = {tuple(r[:2]): r for r in here.differences.select("annotator", "other", "p_value", "common").rows()}
    assert tests["people", "model"][2] < 0.05
    assert tests["people", "copy"][2] > 0.05
    assert np.isnan(tests["model", "partly"][2])
    assert tests["model", "partly"][3] == 1920
    assert any("3 pairs" in warning for warning in here.warnings)


def test_what_cannot_be_counted_is_refused(table: PreferenceTable, tmp_path: Path) -> None:
    frame = table.to_frame()

    def of(name: str, *frames: pl.DataFrame) -> Path:
        (tmp_path / name).mkdir()
        for k, part in enumerate(frames):
            part.write_parquet(tmp_path / name / f"{k}.parquet")
        return tmp_path / name

    wrong = frame.with_columns(pl.lit(5, pl.Int8).alias("annotator: people"))
    with pytest.raises(ReadError, match="no such folder"):
        audit_partitions(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ReadError, match="no Parquet"):
        audit_partitions(tmp_path / "bare")
    with pytest.raises(StudyError, match="spark"):
        audit_partitions(tmp_path, engine="spark")
    with pytest.raises(VoteError, match="comparison 'c0': the value 5"):
        audit_partitions(of("votes", frame, wrong))
    with pytest.raises(ColumnError, match=r"no such column, though 0\.parquet"):
        audit_partitions(of("columns", frame, frame.drop("annotator: model")))
    with pytest.raises(IdError, match="2,400 repeat"):
        audit_partitions(of("ids", pl.concat([frame, frame])))
    with pytest.raises(ColumnError, match="cluster"):
        audit_partitions(of("cluster", frame), cluster="prompt")
    with pytest.raises(EmptyError, match="annotators"):
        audit_partitions(of("nobody", frame.select("id", "^principle: .*$")))
    with pytest.raises(EmptyError, match="no rows"):
        audit_partitions(of("empty", frame.clear()))
    with pytest.raises(IdError, match="nobody"):
        audit_partitions(of("reference", frame), reference="nobody", replicates=0)
    with pytest.raises(StudyError, match="already"):
        write_partitions(table, tmp_path / "votes")


def test_without_ray_the_extra_is_named(folder: Path) -> None:
    code = (
        "import sys\nsys.modules['ray'] = None\nfrom discretion.scale.auditing import audit_partitions\n"
        f"print(audit_partitions({str(folder)!r}, replicates=0).name)\n"
        f"audit_partitions({str(folder)!r}, engine='ray')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert "ExtraError" in done.stderr
    assert "pip install 'discretion[ray]'" in done.stderr
    assert done.stdout == "cut\n"  # counting here needs no ray: it is the second audit that fails


def test_every_engine_lists_what_is_finished_and_each_file_once(table: PreferenceTable, tmp_path: Path) -> None:
    """A folder that Spark wrote, with what it leaves behind while it works and after it."""
    frame = table.to_frame()
    for name in (
        "votes.parquet/part-0.parquet", "votes.parquet/_temporary/0/part-1.parquet", "_delta/part-0.parquet",
        "votes.parquet/.part-2.parquet", "votes.parquet/_metadata.parquet", ".hidden/part-3.parquet",
        "within/b.parquet",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        frame[:100].write_parquet(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no partition")
    frame[100:150].write_parquet(tmp_path / "within" / "b.parquet")
    assert [file.name for file in find(tmp_path).files] == ["votes.parquet/part-0.parquet", "within/b.parquet"]
    assert audit_partitions(tmp_path, replicates=0).table.rows == 150
    assert len(find(tmp_path / "votes.parquet").files) == 1
    hidden = tmp_path / ".hidden"  # who names a hidden folder means it
    assert audit_partitions(hidden, replicates=0).table.rows == 100
    one = audit_partitions(tmp_path / "within" / "b.parquet", replicates=0)
    assert (one.table.rows, one.name) == (50, "b.parquet")
    (tmp_path / "within" / "c.parquet").symlink_to(tmp_path / "gone")
    with pytest.raises(ReadError, match=r"c\.parquet"):
        find(tmp_path)


@pytest.mark.parametrize("later", [False, True])
def test_a_column_of_some_files_only_is_refused_in_either_order(
    table: PreferenceTable, tmp_path: Path, later: bool
) -> None:
    frame = table.to_frame()
    names = ["1.parquet", "0.parquet"] if later else ["0.parquet", "1.parquet"]
    for column in ("annotator: people", f"principle: {table.constitution.names[2]}"):
        frame.write_parquet(tmp_path / names[0])
        frame.drop(column).write_parquet(tmp_path / names[1])
        with pytest.raises(ColumnError, match=r"1\.parquet, column .*0\.parquet") as refused:
            audit_partitions(tmp_path, replicates=0)
        assert (refused.value.path, refused.value.column) == ("1.parquet", column)


def test_attributes_have_one_type_in_all_files(table: PreferenceTable, tmp_path: Path) -> None:
    frame = table.to_frame().with_columns(turn=pl.int_range(2400) % 7)
    frame[:1200].write_parquet(tmp_path / "0.parquet")
    frame[1200:].with_columns(pl.col("turn").cast(pl.Float64)).write_parquet(tmp_path / "1.parquet")
    for options in ({"cluster": "turn"}, {"by": "turn"}):
        with pytest.raises(ColumnError, match=r"1\.parquet, column 'turn': it is Float64"):
            audit_partitions(tmp_path, replicates=0, **options)
    assert audit_partitions(tmp_path, replicates=0).table.rows == 2400  # who does not use it does not mind
    frame[1200:].with_columns(pl.col("topic").cast(pl.Categorical)).write_parquet(tmp_path / "1.parquet")
    assert audit_partitions(tmp_path, replicates=0, by="topic").group_states["group"].unique().len() == 2


def test_a_file_is_read_piece_by_piece_and_is_one_piece_of_the_cut(
    folder: Path, table: PreferenceTable, here: PartitionedAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.to_frame().write_parquet(tmp_path / "all [1].parquet", row_group_size=900)
    file = find(tmp_path).files[0]
    heights = [piece.height for piece in pieces_of(file, None, ["id"], 700)]
    assert heights == [700, 700, 700, 300]
    monkeypatch.setattr("discretion.scale.tally.ROWS", 700)
    found = audit_partitions(tmp_path, replicates=60, splits=20, seed=5, threads=1)
    assert same(found, here)
    assert (found.table.cut, here.table.cut) == (1, 12)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Peak memory of a process that counts 1.5 million rows in one file, and in fifteen."""
    rng = np.random.default_rng(0)
    n = 1_500_000
    votes = {f"annotator: a{k}": pl.Series(rng.integers(-1, 2, n).astype(np.int8)) for k in range(24)}
    frame = pl.DataFrame(
        {"id": pl.int_range(n, eager=True).cast(pl.String), "principle: p": votes["annotator: a0"],
         "principle: q": votes["annotator: a1"], **votes}
    )  # fmt: skip
    code = (
        "import resource, sys\nfrom discretion.scale import tally\ntally.ROWS = 100_000\n"
        "from discretion.scale.auditing import audit_partitions\n"
        "audit_partitions(sys.argv[1], replicates=0, units=64, threads=1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for rows in (100_000, n):
        place = tmp_path / str(rows)
        place.mkdir()
        for k, piece in enumerate(frame.iter_slices(rows)):
            piece.write_parquet(place / f"{k:03}.parquet")
        env = environment({"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"})
        done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, env=env)
        peaks.append(int(done.stdout))
    whole = frame.estimated_size() / 1024
    assert peaks[1] - peaks[0] < 0.5 * whole, (peaks, whole)


def test_groups_are_those_of_each_part_alone_and_add_up(table: PreferenceTable, folder: Path, tmp_path: Path) -> None:
    options = {"replicates": 60, "splits": 0, "swaps": 0, "seed": 5, "threads": 1}
    found = audit_partitions(folder, by="topic", **options)
    assert found.by == ("topic",)
    plain = audit_partitions(folder, **options)
    assert all(getattr(found, n).equals(getattr(plain, n), null_equal=True) for n in FIGURES)
    assert plain.group_states.is_empty()
    cut = write_partitions(table, tmp_path / "cut", 777)
    assert same(audit_partitions(cut, by=["topic"], **options), found)
    for topic in ("x", "y"):
        rows = np.flatnonzero((table.attributes["topic"] == topic).to_numpy())
        alone = audit_partitions(write_partitions(table.subset(rows), tmp_path / topic), **options)
        for name in GROUPED:
            ours = getattr(found, name).filter(pl.col("group") == topic)
            theirs = getattr(alone, name.removeprefix("group_"))
            assert ours["comparisons"].unique().to_list() == [1200]
            for column in ("estimate", "count", "n", "logit", "rank", "games"):
                if column in theirs.columns:
                    assert ours[column].equals(theirs[column]), (name, column)
            if "low" in theirs.columns and name in ("group_states", "group_arbitrariness"):
                assert ours["low"].equals(theirs["low"])  # binomial: no draw is in it
            se, other = ours["se"].to_numpy(), theirs["se"].to_numpy()
            assert np.all((se / other > 0.5) & (se / other < 2))


def test_groups_are_crossed_named_and_few(table: PreferenceTable, tmp_path: Path) -> None:
    frame = table.to_frame().with_columns(
        turn=pl.when(pl.int_range(2400) % 5 == 4).then(None).otherwise(2 + 8 * (pl.int_range(2400) % 2)),
        many=pl.int_range(2400) % (MOST_GROUPS + 1),
    )
    for k, piece in enumerate(frame.iter_slices(500)):
        piece.write_parquet(tmp_path / f"{k}.parquet")
    found = audit_partitions(tmp_path, by=("topic", "turn"), replicates=0)
    sizes = dict(found.group_states.select("group", "comparisons").unique(maintain_order=True).rows())
    # Topics alternate as turns do.
    assert list(sizes) == ["x × 2", "x × (none)", "y × 10", "y × (none)"]
    assert sum(sizes.values()) == 2400
    assert ordered(["b", "10", "(none)", "9", "a"]) == ["9", "10", "a", "b", "(none)"]
    with pytest.raises(DataError, match=r"64 groups or fewer.*coarser"):
        audit_partitions(tmp_path, by="many", replicates=0)
    with pytest.raises(ColumnError, match="group by"):
        audit_partitions(tmp_path, by="colour", replicates=0)
    with pytest.raises(ColumnError, match=r"column 'tags': it is List"):
        Columns.of(frame.select(pl.all(), tags=pl.concat_list("topic")).schema, by=["tags"])
    frame.with_columns(topic=pl.lit("a × b")).write_parquet(tmp_path / "0.parquet")
    with pytest.raises(DataError, match="crossed"):
        audit_partitions(tmp_path, by=("topic", "turn"), replicates=0)


def test_groups_fit_the_terminal_whatever_they_are_called(table: PreferenceTable, tmp_path: Path) -> None:
    names = pl.Series([f"\x1b[31m{k} " + "long " * 30 for k in range(20)])
    frame = table.to_frame().with_columns(kind=names.gather(np.arange(2400) % 21 % 20))
    frame.write_parquet(tmp_path / "0.parquet")
    found = audit_partitions(tmp_path, by="kind", replicates=20, splits=0, swaps=0)
    console = Console(width=80, file=io.StringIO(), highlight=False)
    show_groups(found, console)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown
    assert "4 smaller groups are not shown" in shown
    assert (
        sum(line.strip().startswith("\ufffd[31m0 ") for line in shown.splitlines()) == 4
    )  # the largest, in each table
    show_groups(audit_partitions(tmp_path, replicates=0), console)
    assert console.file.getvalue() == shown


def test_sums_outgrow_their_bytes_and_packing_keeps_them() -> None:
    """Units of four billion rows: more than the four bytes of a sum hold."""
    columns, dealing = Columns(("p",), ("a",)), Dealing(2, 0)
    k = 1 + 1 + 3 + 1 + 3 + 3 + 2 + 2 + 4 + 1
    large = Tally(np.arange(2), np.full((2, k), 3_000_000_000, np.uint32), np.array([[6_000_000_000]]))
    small = Tally(np.arange(1), np.full((1, k), 200, np.uint8), np.array([[200]]))
    assert small.plus(small).counts.tolist() == [[400] * k]
    assert small.plus(large).plus(large).counts[:, 0].tolist() == [6_000_000_200, 6_000_000_000]
    packed = unpack(pack({"x": large, "ä": small}))
    assert packed["ä"].counts.dtype == np.uint8
    found = total([{"x": large}, packed], Columns(("p",), ("a",), by=("t",)), dealing)
    assert found.rows == 4 * 3_000_000_000 + 200
    assert found.view.principles.comparisons.tolist() == [6_000_000_200, 6_000_000_000]
    assert found.group("ä")[0].principles.comparisons.tolist() == [200]
    assert total([{"": small}], columns, dealing).rows == 200


def test_no_key_of_a_url_or_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env/SECRET+1")
    url = "s3://AKIA77:sec%2Fret/77@bucket/votes?endpoint_override=http://127.0.0.1:1&secret_key=third77"
    assert public(url) == "s3://bucket/votes"
    assert public("s3://bucket/a@b?x=1") == "s3://bucket/a@b"
    told = without_keys(f"cannot read {url} (AKIA77, sec/ret/77, third77) with env/SECRET+1", url)
    assert not any(key in told for key in ("AKIA77", "sec%2Fret", "sec/ret", "third77", "SECRET"))
    with pytest.raises(ReadError) as refused:
        find("s3://AKIA77:sec ret@bu cket/votes?secret_key=third77")
    assert "bu cket" in str(refused.value)
    assert not any(key in str(refused.value) for key in ("AKIA77", "sec ret", "third77"))


@pytest.mark.slow
def test_the_command_shows_and_writes_the_figures(folder: Path, here: PartitionedAudit, tmp_path: Path) -> None:
    main = "import discretion.cli, discretion.cli_scale; discretion.cli.main()"

    def done(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", main, "audit-partitions", str(folder), *map(str, arguments)]
        line += ["--replicates", "60", "--seed", "5"]
        return subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=60)

    shown = done("--out", tmp_path / "figures")
    assert shown.returncode == 0, shown.stderr
    assert "2,400 comparisons, 4 principles" in shown.stdout
    assert "left out" in shown.stdout.replace("\n", " ")
    assert pl.read_parquet(tmp_path / "figures" / "states.parquet").equals(here.states)
    document = json.loads(done("--json", "--out", tmp_path / "figures").stdout)
    assert document["states"][0]["estimate"] == here.states["estimate"][0]
    assert document == json.loads((tmp_path / "figures" / "figures.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    grouped = done("--by", "topic", "--out", tmp_path / "figures", "--keep", tmp_path / "kept").stdout
    assert "By topic: arbitrariness" in grouped
    assert max(map(len, grouped.splitlines())) <= 80
    by = audit_partitions(folder, by="topic", replicates=60, seed=5)
    for name in GROUPED:
        assert pl.read_parquet(tmp_path / "figures" / f"{name}.parquet").equals(getattr(by, name), null_equal=True)
    assert len(list((tmp_path / "kept").iterdir())) == 12
    document = json.loads((tmp_path / "figures" / "figures.json").read_text())
    assert [row["group"] for row in document["group_states"]] == ["x"] * 4 + ["y"] * 4
    refused = done("--out", tmp_path / "other")
    assert refused.returncode == 1
    assert "holds no figures" in refused.stderr
    assert done("--address", "auto").returncode == 2


CUT_OFF = """
import os, signal, sys
from discretion.scale.auditing import audit_partitions

folder, keep, engine, address = sys.argv[1:]
heard = []

def progress(stage, done):
    heard.append(done)
    if len(heard) == 5:  # the start, and four files
        os.kill(os.getpid(), signal.SIGKILL)

audit_partitions(folder, engine=engine, address=address or None, keep=keep, replicates=60, splits=20, seed=5,
                 threads=1, by="topic", progress=progress)
"""


def cut_off(folder: Path, keep: Path, engine: str = "here", address: str = "") -> None:
    line = [sys.executable, "-c", CUT_OFF, str(folder), str(keep), engine, address]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(keep.glob("*.tally"))) == 4


def watched(patch: pytest.MonkeyPatch, engine: str) -> list[str]:
    """Return a list that fills with the names of the files that an engine is given to count."""
    module = "auditing.tallies_here" if engine == "here" else "spread.tallies_there"
    given: list[str] = []
    original = pytest.importorskip(f"discretion.scale.{module.partition('.')[0]}").__dict__[module.partition(".")[2]]

    def count(files: Sequence[Any], *rest: Any) -> Any:
        given.extend(file.name for file in files)
        return original(files, *rest)

    patch.setattr(f"discretion.scale.{module}", count)
    return given


def test_an_audit_that_was_killed_goes_on_where_it_was(
    folder: Path, table: PreferenceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"replicates": 60, "splits": 20, "seed": 5, "threads": 1, "by": "topic"}
    whole = audit_partitions(folder, **options)
    cut_off(folder, tmp_path / "kept")
    given = watched(monkeypatch, "here")
    shares: list[float] = []
    found = audit_partitions(
        folder, keep=tmp_path / "kept", progress=lambda stage, done: shares.append(done), **options
    )
    assert same(found, whole)
    assert found.table.cut == 12
    assert len(given) == 8
    assert shares[:3] == [0, 4 / 12, 5 / 12]
    given.clear()
    assert same(audit_partitions(folder, keep=tmp_path / "kept", **options), whole)
    assert not given
    # What is damaged is counted anew, and so is what the counts do not belong to: another seed, or other groups.
    damaged = sorted((tmp_path / "kept").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert same(audit_partitions(folder, keep=tmp_path / "kept", **options), whole)
    assert len(given) == 1
    audit_partitions(folder, keep=tmp_path / "kept", **(options | {"seed": 6}))
    audit_partitions(folder, keep=tmp_path / "kept", **(options | {"by": ()}))
    assert len(given) == 25


def test_a_partition_that_changed_is_counted_anew(
    table: PreferenceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keep = write_partitions(table, tmp_path / "votes", 800), tmp_path / "kept"
    audit_partitions(folder, keep=keep, replicates=0)
    given = watched(monkeypatch, "here")
    file = folder / "part-00001.parquet"
    pl.read_parquet(file).with_columns(-pl.col("annotator: people")).write_parquet(file)
    pl.read_parquet(file).head(10).with_columns(id=pl.format("new-{}", "id")).write_parquet(folder / "more.parquet")
    changed = audit_partitions(folder, keep=keep, replicates=0)
    assert given == ["more.parquet", "part-00001.parquet"]
    assert same(changed, audit_partitions(folder, replicates=0))


def test_the_share_of_files_is_told(folder: Path) -> None:
    told: list[tuple[str, float]] = []
    audit_partitions(folder, replicates=0, progress=lambda stage, done: told.append((stage, done)))
    assert [done for stage, done in told if stage == "counting votes"] == [k / 12 for k in range(13)]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The settings of an S3 server on this machine, to stand behind a URL's "?"; keys are in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"endpoint_override=http://127.0.0.1:{port}&region=us-east-1"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(store: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The partitions in a store, and what a writer leaves beside them; the URL of their folder."""
    from pyarrow import fs

    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    system, path = fs.FileSystem.from_uri(f"s3://bucket/votes?{store}&allow_bucket_creation=true")
    system.create_dir(path)
    files = sorted(folder.iterdir())
    for file in files:
        with system.open_output_stream(f"{path}/votes.parquet/{file.name}") as out:
            out.write(file.read_bytes())
    for name in ("_temporary/0/part-0.parquet", "votes.parquet/.part-0.parquet"):
        with system.open_output_stream(f"{path}/{name}") as out:
            out.write(files[0].read_bytes())
    return f"s3://bucket/votes?{store}"


def test_partitions_in_a_store_are_those_of_a_folder(
    bucket: str, here: PartitionedAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"replicates": 60, "splits": 20, "seed": 5, "threads": 1}
    found = audit_partitions(bucket, keep=tmp_path, **options)
    assert same(found, here)
    assert (found.name, found.table.folder, found.table.cut) == ("votes", "s3://bucket/votes", 12)
    given = watched(monkeypatch, "here")
    assert same(audit_partitions(bucket, keep=tmp_path, **options), here)
    assert not given
    one = bucket.replace("votes?", "votes/votes.parquet/part-00003.parquet?")
    assert audit_partitions(one, replicates=0).table.rows == 200
    with pytest.raises(ReadError, match=r"^s3://bucket/none: there is no such folder"):
        audit_partitions(bucket.replace("votes?", "none?"), replicates=0)
    with pytest.raises(ReadError, match=r"s3://nowhere/votes: .*NO_SUCH_BUCKET"):
        audit_partitions(bucket.replace("bucket", "nowhere"), replicates=0)


def test_without_pyarrow_a_store_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    with pytest.raises(ReadError, match="pip install pyarrow"):
        find("s3://bucket/votes")


@pytest.mark.slow
def test_no_key_gets_into_documents_and_messages(bucket: str, tmp_path: Path) -> None:
    keyed = bucket.replace("s3://", "s3://AKIAINURL77:url%2Fsecret77@")
    main = "import discretion.cli, discretion.cli_scale; discretion.cli.main()"

    def done(url: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", main, "audit-partitions", url, "--replicates", "20", "--json"]
        line += ["--out", str(tmp_path / "figures"), "--keep", str(tmp_path / "kept")]
        return subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=60)

    good, bad = done(keyed), done(keyed.replace("bucket/", "nowhere/"))
    assert good.returncode == 0, good.stderr
    assert bad.returncode == 1
    assert "s3://nowhere/votes" in bad.stderr
    told = good.stdout + good.stderr + bad.stdout + bad.stderr + (tmp_path / "figures" / "figures.json").read_text()
    for secret in ("AKIA", "url%2Fsecret", "url/secret", "never/to", "endpoint_override"):
        assert secret not in told
    assert json.loads(good.stdout)["name"] == "votes"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what ray warns of as it starts is its own affair
        for key, value in (QUIET | KEYS).items():  # nodes hand theirs on to what runs on them
            patch.setenv(key, value)
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@on_ray
def test_on_one_two_and_three_nodes_it_is_what_one_process_makes(
    cluster: Any, folder: Path, here: PartitionedAudit
) -> None:
    for nodes in (1, 2, 3):
        if nodes > 1:
            cluster.add_node(**NODE)
            cluster.wait_for_nodes()
        spread = audit_partitions(folder, engine="ray", replicates=60, splits=20, seed=5, threads=1)
        assert same(spread, here), nodes
        assert spread.table.cut == 12


@on_ray
def test_a_node_that_leaves_in_the_middle_changes_nothing(cluster: Any, tmp_path: Path) -> None:
    from ray._private.state import available_resources_per_node

    folder = write_partitions(votes_table(900_000, 2), tmp_path / "votes", 30_000)
    options = {"replicates": 20, "splits": 0, "swaps": 0, "threads": 1}
    whole = audit_partitions(folder, **options)
    before = len(cluster.list_all_nodes())
    left_at: list[int] = []
    counted = 0

    def leave(stage: str, done: float) -> None:
        """Between two tallies, take away a node that is at work."""
        nonlocal counted
        counted += stage == "counting votes"
        if counted < 2 or left_at:
            return
        for _ in range(20):
            free = available_resources_per_node()
            busy = [n for n in cluster.worker_nodes if free.get(n.node_id, {}).get("CPU", 0.0) < 1]
            if busy:
                cluster.remove_node(busy[0], allow_graceful=False)
                left_at.append(counted - 1)
                return
            time.sleep(0.01)

    spread = audit_partitions(folder, engine="ray", progress=leave, **options)
    assert left_at
    assert left_at[0] < 30  # of thirty tallies some were still to come
    assert len(cluster.list_all_nodes()) == before - 1
    assert spread.table.cut == 30
    assert same(spread, whole)


@on_ray
def test_a_driver_that_was_killed_is_started_again(
    cluster: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"replicates": 60, "splits": 20, "seed": 5, "threads": 1, "by": "topic"}
    cut_off(folder, tmp_path / "kept", "ray", cluster.address)
    given = watched(monkeypatch, "ray")
    found = audit_partitions(folder, engine="ray", keep=tmp_path / "kept", **options)
    assert len(given) == 8
    assert same(found, audit_partitions(folder, **options))
    assert found.table.cut == 12


@on_ray
def test_nodes_read_from_a_store(cluster: Any, bucket: str, here: PartitionedAudit) -> None:
    spread = audit_partitions(bucket, engine="ray", replicates=60, splits=20, seed=5, threads=1)
    assert same(spread, here)
    assert spread.table.cut == 12
    with pytest.raises(ReadError, match=r"^s3://bucket/none: there is no such folder"):
        audit_partitions(bucket.replace("votes?", "none?"), engine="ray", replicates=0)


@on_ray
def test_what_a_worker_refuses_is_refused_here(cluster: Any, table: PreferenceTable, tmp_path: Path) -> None:
    frame = table.to_frame()
    frame.write_parquet(tmp_path / "0.parquet")
    frame.with_columns(pl.lit(5, pl.Int8).alias("annotator: people")).write_parquet(tmp_path / "1.parquet")
    with pytest.raises(VoteError, match="comparison 'c0': the value 5"):
        audit_partitions(tmp_path, engine="ray", replicates=0)
    with pytest.raises(ReadError, match=r"nowhere: there is no such folder or file on this machine\.$"):
        audit_partitions(tmp_path / "nowhere", engine="ray", replicates=0)
    frame.drop("annotator: model").write_parquet(tmp_path / "1.parquet")
    with pytest.raises(ColumnError, match=r"1\.parquet, column 'annotator: model'"):
        audit_partitions(tmp_path, engine="ray", replicates=0)
    frame.with_columns(many=pl.int_range(2400) % (MOST_GROUPS + 1)).write_parquet(tmp_path / "0.parquet")
    with pytest.raises(DataError, match="coarser"):
        audit_partitions(tmp_path / "0.parquet", engine="ray", replicates=0, by="many")
