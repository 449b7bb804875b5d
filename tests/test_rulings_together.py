"""Rulings of several processes at once: none is lost, whoever writes beside it, is killed, or saves the audit anew."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from discretion.audit import audit
from discretion.errors import RulingError
from discretion.folder_lock import held
from discretion.rulings import FILE, Docket, read
from discretion.saved import load, save

from .court import POSIX, WRITER, ended, ids, rule, writer
from .studies import environment, votes_table

pytestmark = pytest.mark.slow


@POSIX
def test_a_full_disk_is_an_error_and_spoils_nothing(tmp_path: Path) -> None:
    kept = rule(tmp_path)
    size = (tmp_path / FILE).stat().st_size
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100}, {size + 100}))"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    code = [sys.executable, "-c", f"{limit}\n{ignore}\n{WRITER}", str(tmp_path), "Bob", "1"]
    done = subprocess.run(code, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 1
    assert "RulingError: the ruling was not recorded" in done.stderr
    assert "100 of" in done.stderr  # it was cut short, and not refused whole
    assert done.stdout == "ready\n"
    assert read(tmp_path) == Docket((kept,), 1)
    behind = rule(tmp_path, case="c2")
    assert read(tmp_path) == Docket((kept, behind), 1)


def test_a_torn_line_spoils_neither_those_before_nor_those_behind(tmp_path: Path) -> None:
    before = [rule(tmp_path, case=f"c{k}", reason="why\n" * k + "so") for k in range(3)]
    path = tmp_path / FILE
    start = path.stat().st_size
    torn = rule(tmp_path, case="torn")
    whole = path.read_bytes()
    counts = set()
    for end in range(start, len(whole) + 1):
        path.write_bytes(whole[:end])
        behind = [rule(tmp_path, case="next"), rule(tmp_path, case="last")]
        docket = read(tmp_path)
        kept = [torn] if end >= len(whole) - 1 else []  # only its line break is missing
        assert list(docket.rulings) == before + kept + behind
        assert docket.unreadable == (0 if kept or end <= start + 1 else 1)
        counts.add(docket.unreadable)
    assert counts == {0, 1}


@POSIX
def test_several_processes_at_once_lose_no_ruling(tmp_path: Path) -> None:
    with held(tmp_path):  # so that they all begin when it is let go
        processes = [writer(tmp_path, f"reviewer {k}", 50) for k in range(4)]
    while any(process.poll() is None for process in processes):
        assert read(tmp_path).unreadable == 0  # nor is one ever seen in half
        time.sleep(0.01)
    said = [id for process in processes for id in ended(process)]
    assert len(said) == 200
    docket = read(tmp_path)
    assert sorted(ids(docket)) == sorted(said)
    assert docket.unreadable == 0
    assert all(len(docket.of(f"c{k}")) == 4 for k in range(50))
    order = [r.reviewer for r in docket.rulings]
    assert order != sorted(order)  # they did write at the same time


@POSIX
def test_a_writer_that_is_killed_loses_nothing_that_it_had_recorded(tmp_path: Path) -> None:
    said: list[str] = []
    for turn in range(6):
        process = writer(tmp_path, f"turn {turn}")
        time.sleep(0.03 + 0.017 * turn)
        process.send_signal(signal.SIGKILL)
        recorded = ended(process)
        assert recorded
        said += recorded
        said.append(rule(tmp_path, reviewer="behind", case=f"turn {turn}").id)
        docket = read(tmp_path)
        found = ids(docket)
        assert set(said) <= set(found)
        assert len(found) - len(said) <= turn + 1  # recorded, and killed before it could say so
        assert docket.unreadable <= turn + 1


@POSIX
def test_an_audit_saved_again_and_again_loses_no_ruling(tmp_path: Path) -> None:
    versions = [audit(votes_table(20, seed), replicates=0, splits=0, swaps=0) for seed in range(2)]
    folder = save(versions[0], tmp_path / "audit")
    assert rule(folder).id in ids(read(folder))
    process = writer(folder, "Bob")
    inodes = set()
    for k in range(25):
        save(versions[k % 2], folder)
        inodes.add(folder.stat().st_ino)
    process.send_signal(signal.SIGKILL)
    said = ended(process)
    assert len(said) > 25
    assert len(inodes) > 1  # the folder was replaced, not written into
    assert set(said) <= set(ids(read(folder)))
    load(folder)


@POSIX
def test_without_the_lock_such_rulings_are_lost(tmp_path: Path) -> None:
    # Negative control of the test above: the same, with a writer that does not ask for the folder.
    versions = [audit(votes_table(20, seed), replicates=0, splits=0, swaps=0) for seed in range(2)]
    unlocked = "import contextlib, discretion.rulings\n"
    unlocked += "discretion.rulings.held = lambda folder, shared=False: contextlib.nullcontext()\n"
    for turn in range(10):
        folder = save(versions[0], tmp_path / f"audit {turn}")
        process = writer(folder, "Bob", before=unlocked)
        for k in range(40):
            save(versions[k % 2], folder)
        process.send_signal(signal.SIGKILL)
        said = ended(process)
        assert said
        if set(said) - set(ids(read(folder))):
            return
    pytest.fail("no ruling was ever lost")


def test_a_report_of_the_old_figures_goes_and_rulings_stay(tmp_path: Path) -> None:
    made = audit(votes_table(20), replicates=0, splits=0, swaps=0)
    folder = save(made, tmp_path / "audit")
    (folder / "report.html").write_text("the old figures")
    (folder / "notes.html").write_text("mine")
    kept = rule(folder)
    save(made, folder)
    assert not (folder / "report.html").exists()
    assert (folder / "notes.html").read_text() == "mine"
    assert read(folder) == Docket((kept,), 0)


def holder(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds a folder, says so, and never lets go."""
    code = "import sys, time; from discretion.folder_lock import held\n"
    code += "with held(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


@POSIX
def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path):
        process = writer(tmp_path, "Bob", 1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert not (tmp_path / FILE).exists()
    assert ended(process) == ids(read(tmp_path))
    with held(tmp_path, shared=True), held(tmp_path, shared=True):
        assert len(read(tmp_path).rulings) == 1


@POSIX
def test_rulings_are_not_read_while_one_is_being_added(tmp_path: Path) -> None:
    found: list[Docket] = []
    with held(tmp_path):
        reader = threading.Thread(target=lambda: found.append(read(tmp_path)))
        reader.start()
        reader.join(0.2)
        assert not found
    reader.join(30)
    assert found == [Docket((), 0)]


@POSIX
def test_who_waits_for_a_folder_that_is_replaced_gets_the_new_one(tmp_path: Path) -> None:
    import fcntl

    place, new, old = (tmp_path / name for name in ("place", "new", "old"))
    place.mkdir()
    new.mkdir()
    with held(place):
        process = holder(place)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        place.rename(old)
        new.rename(place)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    for folder, free in ((place, False), (old, True)):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert not free
        else:
            assert free
        finally:
            os.close(descriptor)
    process.kill()
    process.communicate(timeout=60)


@POSIX
def test_a_folder_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    # As where two folders cannot be exchanged in one step.
    place, away = tmp_path / "place", tmp_path / "away"
    away.mkdir()
    back = threading.Timer(0.05, lambda: away.rename(place))
    back.start()
    made = rule(place)
    back.join()
    assert read(place) == Docket((made,), 0)


@POSIX
def test_a_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert ids(read(tmp_path)) == []
    rule(tmp_path)
    assert len(read(tmp_path).rulings) == 1


@POSIX
def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code = errno.ENOLCK
    made = rule(tmp_path)
    assert read(tmp_path) == Docket((made,), 0)
    code = errno.EIO
    with pytest.raises(RulingError, match="was not recorded"):
        rule(tmp_path)
