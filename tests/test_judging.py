"""Judging a study from the command line, against a real endpoint: to an audit, resumed, within a budget."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.errors import StudyError
from discretion.journal import Journal
from discretion.judges.asking import OK
from discretion.judges.spec import Spec
from discretion.study import load_questions, load_study

from .judges.server import Server, completion, serving
from .studies import command, environment, start

KEY = "sk-never-to-be-seen-42"
ENV = {"TEST_KEY": KEY}
PRINCIPLES = ("Be helpful.", "Avoid harm.", "Be brief.")
N = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "study"
    made.mkdir()
    rows = [{"id": f"c{k}", "prompt": f"question {k}", "chosen": f"one {k}", "rejected": f"two {k}"} for k in range(N)]
    (made / "comparisons.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (made / "constitution.txt").write_text("\n".join(PRINCIPLES) + "\n")
    return made


def judged(folder: Path, server: Server, *more: object, expect: int = 0) -> subprocess.CompletedProcess:
    done = command("judge", folder, "--key-variable", "TEST_KEY", *more, env=ENV)
    assert done.returncode == expect, done.stderr
    return done


def by_principle(body: dict) -> dict:
    """Prefer the first response of the study for two principles, whatever the order; nothing for the third."""
    text = body["messages"][1]["content"]
    swapped = text.index("\ntwo ") < text.index("\none ")
    if "brief" in text:
        return completion(body, p=(0.05, 0.05, 0.9))
    return completion(body, p=(0.1, 0.85, 0.05) if swapped else (0.85, 0.1, 0.05))


@pytest.mark.slow
def test_from_comparisons_to_an_audit(folder: Path) -> None:
    with serving(Server(answer=by_principle)) as server:
        given = ("--oracle", f"chat:tiny@{server.url}", "--annotator", f"j=chat:tiny@{server.url}")
        dry = judged(folder, server, *given, "--dry-run", "--price-in", 2, "--price-cached", 1, "--price-out", 8)
        assert server.requests == []
        assert "72" in dry.stdout.decode()
        assert "$" in dry.stdout.decode()
        assert max(map(len, dry.stdout.decode().splitlines())) <= 80
        done = judged(folder, server, *given)
        assert len(server.requests) == N * 3 * 2 + N * 2
        assert max(map(len, done.stdout.decode().splitlines()[:4])) <= 80
        again = json.loads(judged(folder, server, *given, "--json").stdout)
        assert len(server.requests) == N * 3 * 2 + N * 2
    assert [t["collected"]["asked"] for t in again["tasks"]] == [0, 0]
    study = load_study(folder)
    assert np.array_equal(study.table.X, [[1, 1, 0]] * N)
    assert (study.table.annotator("j").values == 1).all()
    assert study.table.oracle is not None
    assert study.table.oracle.both_orders
    assert command("audit", folder, "--out", folder / "audit", "-q", "--replicates", 20).returncode == 0
    everything = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file()) + done.stdout + done.stderr
    assert KEY.encode() not in everything
    secret = folder / "judgements.sqlite.fence"
    assert os.name != "posix" or stat.S_IMODE(secret.stat().st_mode) == 0o600


@pytest.mark.slow
def test_an_oracle_of_the_users_is_left_alone(folder: Path) -> None:
    (folder / "oracle.csv").write_text("mine")
    done = judged(folder, Server(), "--oracle", "scripted:longer")
    assert (folder / "oracle.csv").read_text() == "mine"
    assert (folder / "oracles" / "longer.csv").is_file()
    assert b"oracles" in done.stdout


@pytest.mark.slow
def test_a_described_study_is_told_what_to_name(folder: Path) -> None:
    (folder / "study.toml").write_text(
        '[comparisons]\npath = "comparisons.jsonl"\n[constitution]\npath = "constitution.txt"\n'
    )
    printed = judged(
        folder, Server(), "--oracle", "scripted:longer", "--annotator", "len=scripted:longer"
    ).stdout.decode()
    added = [
        line.strip() for line in printed.splitlines() if "oracle]" in line or "annotators]" in line or " = " in line
    ]
    assert added == ["[oracle]", 'path = "oracle.csv"', "[annotators]", 'len = "annotators/len.csv"']
    with (folder / "study.toml").open("a") as file:
        file.write("\n".join(added))
    assert "len" in load_study(folder).table.annotator_names


@pytest.mark.slow
def test_money_stops_it_and_it_goes_on(folder: Path) -> None:
    with serving(Server(lambda number, body: (time.sleep(0.004), None)[1])) as server:
        given = ("--oracle", f"chat:tiny@{server.url}", "--at-once", 2, "--price-in", 100, "--json")
        first = json.loads(judged(folder, server, *given, "--budget", "0.1usd").stdout)
        assert first["stopped"] == "budget"
        asked = len(server.requests)
        unpriced = judged(folder, server, *given[:4], "--budget", "1usd", expect=1)
        assert b"--price-in" in unpriced.stderr
        assert len(server.requests) == asked  # refused before anything is paid
        assert 10 <= asked < N * 6
        second = json.loads(judged(folder, server, *given).stdout)
        assert second["stopped"] == ""
        assert len(server.requests) == N * 6
    assert second["tasks"][0]["known"] == asked
    assert judged(folder, server, "--oracle", "scripted:longer", "--budget", "much", expect=2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_keeps_what_is_in_flight(folder: Path) -> None:
    with serving(Server(lambda number, body: (time.sleep(0.02), None)[1])) as server:
        arguments = start("judge", folder, "--oracle", f"chat:tiny@{server.url}", "--at-once", 2, "--json")
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(ENV))
        while len(server.requests) < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        result = json.loads(out)
        assert result["stopped"] == "interrupted"
        assert result["tasks"][0]["collected"]["asked"] == sum(server.answered.values()) < N * 6
        judged(folder, server, "--oracle", f"chat:tiny@{server.url}")
        assert sum(server.answered.values()) == N * 6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_killed_twenty_times_it_ends_as_if_undisturbed(folder: Path) -> None:
    moments = random.Random(1)
    killed = 0
    with serving(Server(lambda number, body: (time.sleep(0.004), None)[1], by_principle)) as server:
        arguments = start("judge", folder, "--oracle", f"chat:tiny@{server.url}", "--at-once", 4, "-q")
        for _ in range(40):
            before = len(server.requests)
            process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=environment(ENV))
            while len(server.requests) == before and process.poll() is None:
                time.sleep(0.002)
            try:
                process.wait(moments.uniform(0.0, 0.03))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
            if killed == 20:
                break
        judged(folder, server, "--oracle", f"chat:tiny@{server.url}")
    assert np.array_equal(load_study(folder).table.X, [[1, 1, 0]] * N)
    assert killed >= 3
    # What was answered and not journalled was in flight, or waited to be delivered, when the process was killed.
    twice = sum(server.answered.values()) - N * 6
    assert twice <= killed * (4 + 16)
    with Journal.open(folder / "judgements.sqlite") as journal:
        frame = journal.frame()
        assert frame.height == N * 6
        assert (frame["status"] == OK).all()


@pytest.mark.slow
def test_what_is_wrong_is_said(folder: Path, tmp_path: Path) -> None:
    with serving(Server(lambda number, body: {"status": 401, "body": f"bad key {KEY}"})) as server:
        done = judged(folder, server, "--oracle", f"chat:tiny@{server.url}", expect=1)
    assert b"401" in done.stderr
    assert KEY.encode() not in done.stderr + done.stdout
    assert b"TEST_KEY" in done.stderr
    assert b"at least one judge" in judged(folder, Server(), expect=2).stderr
    assert b"names no judge" in judged(folder, Server(), "--oracle", "gpt-4o", expect=1).stderr
    (folder / "constitution.txt").unlink()
    assert b"no constitution" in judged(folder, Server(), "--oracle", "scripted:longer", expect=1).stderr
    assert judged(folder, Server(), "--annotator", "scripted:longer").returncode == 0
    assert (folder / "annotators" / "longer.csv").is_file()


@pytest.mark.slow
def test_answers_that_an_audit_will_not_count_are_told(folder: Path) -> None:
    with serving(Server(answer=lambda body: completion(body, p=(0.2, 0.15, 0.1)))) as server:
        done = judged(folder, server, "--oracle", f"chat:tiny@{server.url}")
        assert b"72 answers put less than half" in done.stdout
        made = json.loads(judged(folder, server, "--oracle", f"chat:tiny@{server.url}", "--json").stdout)
    assert made["tasks"][0]["weak"] == N * 3 * 2


def test_names_of_judges() -> None:
    assert Spec.parse("chat:gpt-4o") == Spec("gpt-4o", "chat", "gpt-4o")
    assert Spec.parse("mine=chat:org/tiny@http://localhost:8000/v1") == Spec(
        "mine", "chat", "org/tiny", "http://localhost:8000/v1"
    )
    assert Spec.parse("chat:org/some model").name == "some-model"
    assert Spec.parse("scripted:longer").model == "longer"
    for wrong in ("", "gpt-4o", "chat:", "phone:x", "a=b", "=chat:x:"):
        if wrong != "=chat:x:":
            with pytest.raises(StudyError, match="names no judge"):
                Spec.parse(wrong)


def test_questions_need_comparisons(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no comparisons"):
        load_questions(tmp_path)
    with pytest.raises(StudyError, match="no study"):
        load_questions(tmp_path / "x.csv")


@pytest.mark.slow
def test_a_journal_is_shown_merged_and_exported(folder: Path, tmp_path: Path) -> None:
    judged(folder, Server(), "--oracle", "scripted:longer")
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.sqlite*", "oracle.csv", ".oracle"))
    judged(other, Server(), "--annotator", "scripted:longer")
    mine, theirs = (place / "judgements.sqlite" for place in (folder, other))
    made = json.loads(command("journal", mine, "--merge", theirs, "--json").stdout)
    assert made["added"] == {str(theirs): N * 2}
    assert made["judges"][0]["judgements"] == N * 3 * 2 + N * 2
    done = command("journal", mine, "--merge", theirs, "--parquet", tmp_path / "all.parquet")
    assert b"Added 0 rows" in done.stderr + done.stdout
    assert max(map(len, done.stdout.decode().splitlines())) <= 80
    assert pl.read_parquet(tmp_path / "all.parquet").height == N * 3 * 2 + N * 2
    assert command("journal", tmp_path / "none.sqlite").returncode == 2


@pytest.mark.slow
def test_what_goes_by_length_is_said(folder: Path) -> None:
    made = json.loads(judged(folder, Server(), "--oracle", "scripted:longer", "--json").stdout)
    habits = {row["habit"]: row for row in made["tasks"][0]["habits"]}
    assert habits["same verdict in both orders"]["estimate"] == 1.0
    assert "prefers the longer response" in habits
    printed = judged(folder, Server(), "--oracle", "scripted:longer").stdout.decode()
    assert "by position or length" in printed
    assert max(map(len, [line for line in printed.splitlines() if "/" not in line])) <= 80
