"""The journal in the world: what was recorded is there, whoever is killed, writes beside it, or has no room left."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from discretion.errors import JournalError
from discretion.journal import Journal, merge
from discretion.journal_files import LOG_LIMIT

from .studies import REPOSITORY, environment
from .test_journal import JUDGE, cases, made, opened

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")

WRITER = """
import hashlib, sys
from discretion.journal import Journal
from discretion.judges.asking import Judgement
path, who, first, last, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
with Journal.open(path) as journal:
    judge = journal.judge({"kind": "scripted", "model": "m"}, "scripted")
    print("ready", flush=True)
    for batch in range(first, last):
        names = [f"{who} {batch} {k}" for k in range(size)]
        keys = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names]
        made = [Judgement(key, name, "", 0, 0, 1.0, 0.0, 0.0, cost=0.5) for key, name in zip(keys, names)]
        journal.record(judge, made)
        print(batch, flush=True)
"""


def writer(path: Path, *arguments: object, before: str = "") -> subprocess.Popen[str]:
    code = [sys.executable, "-c", before + WRITER, str(path), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(code, stdout=pipe, stderr=pipe, text=True, env=environment(), cwd=REPOSITORY)


def keys(who: str, batch: int, size: int) -> set[bytes]:
    return {hashlib.blake2b(f"{who} {batch} {k}".encode(), digest_size=16).digest() for k in range(size)}


def read(path: Path) -> set[bytes]:
    with Journal.open(path, read_only=True) as journal:
        return journal.done(JUDGE)


@POSIX
@pytest.mark.slow
def test_no_recorded_judgement_is_lost_to_kill_9(tmp_path: Path) -> None:
    path, rng, told, size = tmp_path / "j", random.Random(7), set(), 40
    for run in range(20):
        process = writer(path, run, 0, 10**9, size)
        try:
            assert process.stdout is not None
            for _ in range(rng.choice([0, 1, 3, 40])):
                process.stdout.readline()
            time.sleep(rng.random() * 0.05)
        finally:
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (-signal.SIGKILL, "")
        whole = [line for line in out.split("\n")[:-1] if line.isdigit()]
        for batch in range(int(whole[-1]) + 1 if whole else 0):
            told |= keys(str(run), batch, size)
        found = read(path) if path.exists() and path.stat().st_size else set()
        assert told <= found
        assert len(found) % size == 0  # a batch is there as a whole or not at all
        told = found
    assert len(told) > 20 * size
    assert len(cases(path)) == len(told)
    with opened(path) as journal:
        journal.record(JUDGE, [made()])
        assert journal.spent() == len(told) * 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["j"]


@pytest.mark.slow
def test_processes_write_at_once_and_none_is_lost(tmp_path: Path) -> None:
    path, batches, size = tmp_path / "j", 60, 20
    # Two of three ask the same: both pay, both rows are kept, one answer stands.
    processes = [writer(path, who, 0, batches, size) for who in ("x", "y", "y")]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        assert out.split() == ["ready", *map(str, range(batches))]
    expected = {key for who in "xy" for batch in range(batches) for key in keys(who, batch, size)}
    assert read(path) == expected
    assert len(cases(path)) == 3 * batches * size
    with opened(path, read_only=True) as journal:
        row = journal.judges().row(0, named=True)
        assert (row["judgements"], row["asked_twice"]) == (len(expected), batches * size)
        assert journal.frame().height == len(expected)


@POSIX
def test_a_full_disk_is_an_error_and_earlier_rows_stay(tmp_path: Path) -> None:
    path, size = tmp_path / "j", 200
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({300_000}, {300_000}))\n"
    process = writer(path, "x", 0, 10**6, size, before=limit)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "JournalError: " in err
    assert "Most likely the disk is full. What was recorded before is kept; make room and run again." in err
    told = [int(line) for line in out.split()[1:]]
    assert told
    assert read(path) == {key for batch in told for key in keys("x", batch, size)}
    behind = writer(path, "x", len(told), len(told) + 5, size)  # there is room again
    assert behind.communicate(timeout=60)[1] == ""
    assert read(path) == {key for batch in range(len(told) + 5) for key in keys("x", batch, size)}
    assert len(cases(path)) == (len(told) + 5) * size


FULL = """
import os, shutil, sys, tempfile
from pathlib import Path
from discretion.errors import JournalError
from discretion.journal import Journal
from tests.test_journal import JUDGE, IDENTITY, made
folder = Path(sys.argv[1])
with Journal.open(folder / "j") as journal:
    journal.judge(IDENTITY, "scripted")
    judge, told, errors = JUDGE, [], 0
    (folder / "ballast").write_bytes(b"x" * 200_000)
    while errors < 3:
        batch = [made(f"c{len(told)} {k}", reply="x" * 100) for k in range(50)]
        try:
            journal.record(judge, batch)
            told += batch
        except JournalError as error:
            assert "disk is full" in str(error)
            errors += 1
    assert len(told) > 50
    assert journal.done(judge) == {j.key for j in told}
    (folder / "ballast").unlink()
    journal.record(judge, batch)
    told += batch
with Journal.open(folder / "j") as journal:
    assert journal.done(judge) == {j.key for j in told}
    print("kept", journal.frame().height == len(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of 2 MB")
def test_recording_goes_on_where_a_full_disk_has_room_again(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" || exit 77; exec "$@"'
    isolated = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    command = [*isolated, "sh", "-c", mount, str(tmp_path), sys.executable, "-c", FULL, str(tmp_path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), cwd=REPOSITORY, timeout=120, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no `unshare`")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("nothing may be mounted here")
    assert (done.stdout, done.stderr) == ("kept True\n", "")


READER = """
import os, shutil, sys, tempfile
from discretion.errors import JournalError
from discretion.journal import Journal

def look(path):
    with Journal.open(path, read_only=True) as journal:
        found = journal.frame()
        return found.height, len(journal.votes(found["judge"][0], ["x 0 0"], []).probabilities)

path = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:  # whatever is imported late is imported while that is allowed
    look(shutil.copytree(os.path.dirname(path), folder + "/copy") + "/j")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(*look(path))
try:
    Journal.open(path)
except JournalError as error:
    print("may not be written" in str(error) or "cannot be opened" in str(error))
"""


@POSIX
@pytest.mark.parametrize("killed", [False, True])
def test_a_journal_is_read_where_nothing_may_be_written(killed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:  # not below the folder of the tests, which is closed to others
        folder = Path(name) / "closed"
        folder.mkdir()
        process = writer(folder / "j", "x", 0, 10**9 if killed else 3, 10)
        if killed:  # what it recorded lies in the log still
            assert process.stdout is not None
            for _ in range(4):
                process.stdout.readline()
            process.kill()
        process.communicate(timeout=60)
        (folder / "j-shm").unlink(missing_ok=True)
        assert (folder / "j-wal").exists() == killed
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        Path(name).chmod(0o755)
        folder.chmod(0o555)
        for path in folder.iterdir():
            path.chmod(0o444)
        code = [sys.executable, "-c", READER, str(folder / "j")]
        done = subprocess.run(
            code, capture_output=True, text=True, env=environment(), cwd=REPOSITORY, timeout=60, check=False
        )
        folder.chmod(0o755)
        assert done.stderr == ""
        rows, _, refused = done.stdout.split()
        assert int(rows) >= 30
        assert killed or int(rows) == 30
        assert refused == "True"
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_the_log_stays_small_though_somebody_always_reads(tmp_path: Path) -> None:
    path, stop = tmp_path / "j", threading.Event()
    log = Path(f"{path}-wal")

    def reading() -> None:
        with opened(path, read_only=True) as journal:
            while not stop.is_set():
                journal.done(JUDGE)

    with opened(path) as journal:
        readers = [threading.Thread(target=reading) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            largest = 0
            for batch in range(40):
                journal.record(JUDGE, [made(f"c{batch} {k}", reply="x" * 10_000) for k in range(100)])
                largest = max(largest, log.stat().st_size)
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert len(journal.done(JUDGE)) == 4_000
    assert path.stat().st_size > 2 * LOG_LIMIT
    assert largest < 2 * LOG_LIMIT


@pytest.mark.slow
def test_a_reader_that_does_not_end_stops_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with opened(path) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM judgements").fetchone() == (0,)
        for batch in range(3):
            journal.record(JUDGE, [made(f"c{batch}", reply="x" * (LOG_LIMIT + 1))])
        assert other.execute("SELECT count(*) FROM judgements").fetchone() == (0,)
        other.execute("COMMIT")
        journal.record(JUDGE, [made("last")] * 20)
        assert len(journal.done(JUDGE)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["j"]


def test_threads_share_a_journal(tmp_path: Path) -> None:
    with opened(tmp_path / "j") as journal:

        def record(who: int) -> None:
            for k in range(30):
                journal.record(JUDGE, [made(f"{who} {k}", cost=0.5)])
                journal.spent()

        threads = [threading.Thread(target=record, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.spent() == 60.0
        assert len(journal.done(JUDGE)) == 120


def test_an_interrupted_transaction_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield made("a")
        raise KeyboardInterrupt

    with opened(tmp_path / "j") as journal:
        with pytest.raises(KeyboardInterrupt):
            journal.record(JUDGE, broken())
        assert journal.done(JUDGE) == set()
        journal.record(JUDGE, [made("b")])
    assert cases(tmp_path / "j") == ["b"]
    with pytest.raises(JournalError, match="cannot be used"):
        journal.record(JUDGE, [made("c")])  # it is closed


def test_a_merge_reads_a_journal_that_is_being_written(tmp_path: Path) -> None:
    path, into = tmp_path / "j", tmp_path / "into"
    process = writer(path, "x", 0, 10**9, 20)
    try:
        assert process.stdout is not None
        added = 0
        for _ in range(3):
            for _ in range(5):
                process.stdout.readline()
            added += merge(into, path)
    finally:
        process.kill()
        process.communicate(timeout=60)
    merge(into, path)
    assert read(into) == read(path)
    assert len(cases(into)) == len(read(path)) >= added > 0


def test_a_journal_is_read_by_others_without_this_package(tmp_path: Path) -> None:
    with opened(tmp_path / "j") as journal:
        journal.record(JUDGE, [made("a", status="refused"), made("a", first=0.5), made("a", first=0.1)])
    with closing(sqlite3.connect(tmp_path / "j")) as connection:
        found = connection.execute('SELECT "case", first, status FROM latest_judgements').fetchall()
    assert found == [("a", 0.5, "ok")]
