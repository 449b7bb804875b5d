"""Saved audits: everything comes back, nothing altered is believed, and a failed write changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

from discretion.audit import FRAMES, Audit, audit
from discretion.errors import SavedAuditError
from discretion.metrics.priority import Prior
from discretion.saved import FORMAT_VERSION, MANIFEST, is_saved_audit, load, save
from discretion.table import PreferenceTable
from discretion.vote import MISSING

from .strategies import tables
from .studies import environment, rich_audit, votes_table


def assert_same(one: Audit, other: Audit) -> None:
    """Fail unless two audits are equal in every part."""
    for name in FRAMES:
        assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)
    assert (one.name, one.settings, one.warnings, one.annotators) == (
        other.name, other.settings, other.warnings, other.annotators,
    )  # fmt: skip
    mine, theirs = one.table, other.table
    assert_series_equal(mine.ids.alias("id"), theirs.ids.alias("id"))
    assert mine.X.dtype == theirs.X.dtype
    np.testing.assert_array_equal(mine.X, theirs.X)
    assert mine.constitution.names == theirs.constitution.names
    assert mine.constitution.digest == theirs.constitution.digest
    assert [p.text for p in mine.constitution] == [p.text for p in theirs.constitution]
    assert_frame_equal(mine.attributes, theirs.attributes, check_exact=True)
    assert mine.exclusions == theirs.exclusions
    assert_same_votes(mine.oracle, theirs.oracle)
    for a, b in zip(mine.annotators, theirs.annotators, strict=True):
        assert (a.name, a.kind, a.source) == (b.name, b.kind, b.source)
        assert a.values.dtype == b.values.dtype == np.int8
        np.testing.assert_array_equal(a.values, b.values)
        assert (a.rows is None) == (b.rows is None)
        if a.rows is not None:
            assert b.rows.dtype == a.rows.dtype
            np.testing.assert_array_equal(a.rows, b.rows)
        assert_same_votes(a.votes, b.votes)


def assert_same_votes(one, other) -> None:
    assert (one is None) == (other is None)
    if one is not None:
        assert one.minimum_mass == other.minimum_mass
        assert one.probabilities.dtype == other.probabilities.dtype
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


@pytest.fixture(scope="module")
def full() -> Audit:
    return rich_audit()


@pytest.fixture
def saved(full: Audit, tmp_path: Path) -> Path:
    return save(full, tmp_path / "saved")


def alter_manifest(folder: Path, change) -> None:
    """Change a manifest by a careful hand: its checksum is made right again."""
    import hashlib

    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    manifest.pop("sha256", None)
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_everything_comes_back(full: Audit, saved: Path) -> None:
    back = load(saved)
    assert_same(full, back)
    assert back.comparisons.origin == full.comparisons.origin
    assert_frame_equal(back.comparisons.frame, full.comparisons.frame)


def test_the_audit_that_is_saved_has_undefined_and_infinite_figures(full: Audit) -> None:
    # Or the losslessness above would say nothing of them.
    assert any(getattr(full, n).select(pl.col(pl.Float64).is_nan().any()).transpose().to_series().any() for n in FRAMES)
    X = np.array([[1, -1], [1, -1], [1, 0]], np.int8)
    one_sided = audit(PreferenceTable.from_arrays(X, {"a": [1, 1, 1]}), replicates=5)
    assert one_sided.priority["logit"].is_infinite().any()


def test_infinite_priorities_and_a_prior_come_back(tmp_path: Path) -> None:
    X = np.array([[1, -1], [1, -1], [1, 0], [-1, MISSING]], np.int8)
    table = PreferenceTable.from_arrays(X, {"a": [1, 1, 1, MISSING]})
    for k, prior in enumerate((None, Prior("gaussian", 1.5))):
        made = audit(table, replicates=5, prior=prior)
        assert_same(made, load(save(made, tmp_path / str(k))))


def test_texts_can_be_left_out(full: Audit, tmp_path: Path) -> None:
    folder = save(full, tmp_path / "bare", texts=False)
    assert load(folder).comparisons is None
    assert not any("why?" in path.read_bytes().decode("latin-1") for path in folder.iterdir())
    assert_same(full, load(folder))


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(table=tables(most=12, principles=3), data=st.data())
def test_any_small_table_comes_back(table: PreferenceTable, data: st.DataObject, tmp_path_factory) -> None:
    odd = st.one_of(NAMES, st.sampled_from(['"', "'", "a\nb", "ü", "日本", "attribute x", "id", "annotator 0", "\x00"]))
    distinct = st.lists(odd, min_size=len(table.annotators), max_size=len(table.annotators), unique=True)
    names = data.draw(distinct, "annotators")
    column = data.draw(odd, "attribute")
    table = PreferenceTable.from_arrays(
        table.X,
        {name: a.values for name, a in zip(names, table.annotators, strict=True)},
        attributes={column: list(range(len(table)))},
    )
    made = audit(table, replicates=2, swaps=1, splits=1, seed=1, name=data.draw(st.text(max_size=8), "name"))
    assert_same(made, load(save(made, tmp_path_factory.mktemp("any") / "a")))


@pytest.mark.parametrize("dtype", [pl.String, pl.UInt32, pl.Int64])
def test_ids_keep_their_type(dtype, tmp_path: Path) -> None:
    ids = pl.Series("id", [3, 1, 2]).cast(dtype)
    table = PreferenceTable.from_arrays(np.ones((3, 1), np.int8), {"a": [1, -1, 0]}, ids=ids)
    assert load(save(audit(table, replicates=2), tmp_path / "a")).table.ids.dtype == dtype


def test_every_altered_byte_is_noticed(saved: Path, full: Audit) -> None:
    for path in sorted(saved.iterdir()):
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 2}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(SavedAuditError) as caught:
                load(saved)
            assert path.name in str(caught.value) or str(saved) in str(caught.value)
        path.write_bytes(whole)
    assert_same(full, load(saved))


def test_a_figure_altered_in_the_manifest_is_noticed(saved: Path) -> None:
    text = (saved / MANIFEST).read_text()
    assert '"seed": 3' in text
    (saved / MANIFEST).write_text(text.replace('"seed": 3', '"seed": 4'))
    with pytest.raises(SavedAuditError, match="checksum"):
        load(saved)


def test_a_missing_file_is_named(saved: Path) -> None:
    for path in sorted(saved.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(SavedAuditError, match=path.name):
            load(saved)
        path.write_bytes(whole)


def test_a_newer_format_is_refused(saved: Path) -> None:
    alter_manifest(saved, lambda m: m.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(SavedAuditError, match=f"version {FORMAT_VERSION + 1}"):
        load(saved)


@pytest.mark.parametrize("name", ["../outside.parquet", "/etc/passwd", "a/../../outside.parquet", ".."])
def test_a_name_outside_the_folder_is_refused(saved: Path, name: str) -> None:
    outside = saved.parent / "outside.parquet"
    shutil.copy(saved / "states.parquet", outside)

    def change(manifest) -> None:
        manifest["files"][name] = manifest["files"]["states.parquet"]

    alter_manifest(saved, change)
    with pytest.raises(SavedAuditError, match=r"outside|incomplete"):
        load(saved)


@pytest.mark.parametrize(
    "content", [b"", b"not JSON", b"[1]", b"{}", b'{"format": "other"}', b"\xff\xfe", b"[" * 100_000, b"null"]
)
def test_what_is_no_manifest_is_refused(saved: Path, content: bytes) -> None:
    (saved / MANIFEST).write_bytes(content)
    with pytest.raises(SavedAuditError, match=MANIFEST):
        load(saved)


def test_no_folder_is_no_audit(tmp_path: Path) -> None:
    with pytest.raises(SavedAuditError, match="no saved audit"):
        load(tmp_path / "absent")
    assert not is_saved_audit(tmp_path)


@pytest.mark.slow
def test_a_manifest_of_other_types_never_fails_in_another_way(saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_text())
    places = [(key,) for key in manifest if key != "sha256"]
    places += [("constitution", key) for key in manifest["constitution"]]
    places += [("annotators", 0), ("exclusions", 0), ("constitution", "principles", 0), ("files", "states.parquet")]
    places += [("settings", "confidences"), ("annotators", 2, "minimum_mass"), ("annotators", 3, "sparse")]
    refused = 0
    for place in places:
        for other in (None, [], {}, 7, [None], {"a": 1}, ...):

            def change(tree, place=place, other=other) -> None:
                for step in place[:-1]:
                    tree = tree[step]
                if other is ...:
                    del tree[place[-1]]
                else:
                    tree[place[-1]] = other

            alter_manifest(saved, change)
            try:
                load(saved)
            except SavedAuditError:
                refused += 1
            (saved / MANIFEST).write_text(json.dumps(manifest))
    assert refused > 2 * len(places)


def test_a_folder_that_is_no_audit_is_left_alone(full: Audit, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(SavedAuditError, match="no saved audit"):
        save(full, folder)
    (folder / MANIFEST).write_text('{"vulnerabilities": 0}')  # of another tool
    with pytest.raises(SavedAuditError, match="no saved audit"):
        save(full, folder)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "thesis.txt"]
    file = tmp_path / "file"
    file.write_text("x")
    for place in (file, file / "below"):
        with pytest.raises(SavedAuditError):
            save(full, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_an_audit_is_replaced_whole(full: Audit, saved: Path) -> None:
    other = audit(votes_table(), replicates=3)
    assert save(other, saved) == saved
    assert_same(other, load(saved))
    assert not (saved / "oracle.parquet").exists()
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_link_to_an_audit_stays_a_link(saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(saved, target_is_directory=True)
    other = audit(votes_table(), replicates=3)
    save(other, link)
    assert link.is_symlink()
    assert_same(other, load(saved))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "saved"]


def test_an_audit_is_replaced_from_within(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    other = audit(votes_table(), replicates=3)
    save(other, ".")
    assert_same(other, load(saved))


def test_a_name_that_utf8_cannot_hold_comes_back(tmp_path: Path) -> None:
    made = audit(votes_table(), replicates=3, name="caf\udce9")  # a folder's name in Latin-1
    assert_same(made, load(save(made, tmp_path / "a")))


_SAVE = """
import sys
from discretion.errors import SavedAuditError
from discretion.saved import load, save
audit = load(sys.argv[1])
{before}
try:
    save(audit, sys.argv[2])
except SavedAuditError as error:
    print(error)
    sys.exit(3)
"""


# Python tells an audit hook of every file that is opened, renamed or removed: die before the one numbered so.
_DIE = """
import os, signal
left = [{step}]
def hook(event, arguments):
    if event in {events}:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


def in_process(before: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    code = [sys.executable, "-c", _SAVE.format(before=before), *map(str, arguments)]
    return subprocess.run(code, capture_output=True, text=True, env=environment(), timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk_leaves_the_old_audit_and_nothing_else(saved: Path, tmp_path: Path, full: Audit) -> None:
    new = save(audit(votes_table(400), replicates=3), tmp_path / "new")
    sizes = sorted({path.stat().st_size for path in new.iterdir()})
    # Room for no file, for some of the files, and for all but the largest.
    for limit in (10, sizes[len(sizes) // 2], sizes[-1] - 1):
        before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
        for place in (saved, tmp_path / "absent"):
            done = in_process(before, new, place)
            assert done.returncode == 3, done.stderr
            assert "Nothing was changed" in done.stdout
        assert_same(full, load(saved))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "saved"]
    assert in_process("", new, saved).returncode == 0  # with room it works: the limit was the cause


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="two folders are exchanged in one step on Linux only")
@pytest.mark.parametrize(
    ("events", "stride"), [(("os.mkdir", "os.rename", "shutil.rmtree", "ctypes.dlsym", "os.rmdir"), 1), (("open",), 5)]
)
def test_a_process_killed_at_any_step_of_replacing_leaves_a_whole_audit(
    saved: Path, tmp_path: Path, events: tuple[str, ...], stride: int
) -> None:
    new = save(audit(votes_table(), replicates=3), tmp_path / "new")
    killed = 0
    for step in range(0, 60 * stride, stride):
        done = in_process(_DIE.format(step=step, events=events), new, saved)
        load(saved)  # either the old one or the new one, and whole
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            break
        killed += 1
    else:
        pytest.fail("never came to the end")
    assert killed >= 3
    assert_same(load(new), load(saved))


def test_what_others_put_beside_an_audit_outlives_its_replacement(full: Audit, saved: Path) -> None:
    (saved / "relabel.csv").write_text("id\n1\n")
    (saved / "rulings").mkdir()
    (saved / "rulings" / "one.jsonl").write_text("{}\n")
    stale = saved / "judge-2.parquet"
    assert stale.is_file()
    plain = audit(votes_table(30), replicates=0)
    save(plain, saved)
    assert (saved / "relabel.csv").read_text() == "id\n1\n"
    assert (saved / "rulings" / "one.jsonl").read_text() == "{}\n"
    assert not stale.exists()  # it belonged to the audit that was replaced
    assert_same(load(saved), plain)


def test_what_a_killed_run_left_is_swept_away_once_it_is_old(full: Audit, saved: Path) -> None:
    old, young, foreign = (
        saved.with_name(f".{name}.part") for name in ("saved.0123abcd", "saved.89abcdef", "other.0123abcd")
    )
    for folder in (old, young, foreign):
        folder.mkdir()
        (folder / "states.parquet").write_bytes(b"half")
    for folder in (old, foreign):
        os.utime(folder, (0, 0))
    save(full, saved)
    assert [folder.exists() for folder in (old, young, foreign)] == [False, True, True]
