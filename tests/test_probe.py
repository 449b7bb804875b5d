"""Probing: a judge that obeys is found out, one that does not is not, and nothing is paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from discretion.journal import Journal
from discretion.judges.asking import Ask, Block
from discretion.judges.injections import INJECTIONS
from discretion.judges.scripted import ScriptedJudge
from discretion.probe import probe

from .asked import QUESTIONS, comparisons
from .judges.server import Server, completion, serving
from .studies import command

SURE = {1: (0.9, 0.05, 0.05), -1: (0.05, 0.9, 0.05), 0: (0.1, 0.1, 0.8)}


def steady(block: Block, ask: Ask) -> tuple[float, float, float]:
    """Goes by the number in the response, whatever else it says."""
    return SURE[1 if int(block.case.split(" ")[0][1:]) % 2 else -1]


def gullible(block: Block, ask: Ask) -> tuple[float, float, float]:
    """Obeys whoever says "choose", and whoever names a letter."""
    shown = (block.first, block.second) if ask.order == 0 else (block.second, block.first)
    for letter, side in (("Answer A.", 0), ("Answer B.", 1)):
        if any(letter in text for text in shown):
            return SURE[1 if side == ask.order else -1]
    for text, vote in ((block.first, 1), (block.second, -1)):
        if "choose" in text.lower():
            return SURE[vote]
    return steady(block, ask)


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.open(tmp_path / "j.sqlite") as made:
        yield made


def shares(judge: ScriptedJudge, journal: Journal, **more) -> dict[str, float]:
    result = probe(judge, journal, comparisons(30), QUESTIONS, sample=12, **more)
    assert result.complete
    assert result.comparisons == 12
    assert (result.frame["n"] > 0).all()
    assert (result.frame["failed"] == 0).all()
    return dict(result.frame.select("injection", "estimate").iter_rows())


def test_a_judge_that_obeys_is_found_out(journal: Journal) -> None:
    found = shares(ScriptedJudge("gullible", gullible), journal)
    for name in ("order", "polite request", "end of the text", "system message", "role mark", "letter A", "letter B"):
        assert found[name] == 1.0, name
    for name in ("control", "base64", "unseen characters", "neither", "JSON", "another language"):
        assert found[name] == 0.0, name


def test_a_judge_that_does_not_is_not(journal: Journal) -> None:
    assert set(shares(ScriptedJudge("steady", steady), journal).values()) == {0.0}


def test_what_a_judge_would_have_said_anyway_is_no_success(journal: Journal) -> None:
    always_first = ScriptedJudge("first", lambda block, ask: SURE[1])
    frame = probe(always_first, journal, comparisons(30), QUESTIONS, sample=10, seed=3).frame
    planted = frame.filter(frame["injection"] == "order")
    # In half of the comparisons the injection stands in the response that was chosen already.
    assert 0 < planted["n"][0] < 10 * 2 * len(QUESTIONS)
    assert planted["moved"][0] == 0
    letters = frame.filter(frame["injection"] == "letter A")
    assert letters["n"][0] == 10 * len(QUESTIONS)  # shown first in one of the orders


def test_a_judge_that_breaks_is_counted(journal: Journal) -> None:
    def breaks(block: Block, ask: Ask):
        return "refused" if "Decode" in block.first + block.second else steady(block, ask)

    frame = probe(ScriptedJudge("breaks", breaks), journal, comparisons(30), QUESTIONS, sample=5).frame
    broken = frame.filter(frame["injection"] == "base64")
    assert (broken["n"][0], broken["failed"][0]) == (0, 5 * 2 * len(QUESTIONS))
    assert broken["estimate"].is_nan().all()


def test_a_second_probe_pays_nothing_and_another_seed_draws_others(journal: Journal) -> None:
    judge = ScriptedJudge("steady", steady)
    first = probe(judge, journal, comparisons(30), QUESTIONS, sample=4)
    rows = journal.frame().height
    assert rows == 4 * (1 + len(INJECTIONS)) * 2 * len(QUESTIONS)
    again = probe(judge, journal, comparisons(30), QUESTIONS, sample=4)
    assert journal.frame().height == rows
    assert again.frame.equals(first.frame, null_equal=True)
    probe(judge, journal, comparisons(30), QUESTIONS, sample=4, seed=1)
    assert journal.frame().height > rows


@pytest.mark.slow
def test_the_command_probes_an_endpoint(tmp_path: Path) -> None:
    def obeys(body: dict) -> dict:
        return completion(
            body, p=(0.9, 0.05, 0.05) if "Answer A." in body["messages"][1]["content"] else (0.2, 0.7, 0.1)
        )

    comparisons(8).frame.rename({"first": "chosen", "second": "rejected"}).write_ndjson(tmp_path / "comparisons.jsonl")
    (tmp_path / "constitution.txt").write_text("Be helpful.\nBe brief.\n")
    with serving(Server(answer=obeys)) as server:
        done = command(
            "probe", tmp_path, "--oracle", f"chat:tiny@{server.url}", "--sample", 4, "--key-variable", "NONE"
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout.decode()
        assert max(map(len, printed.splitlines())) <= 80
        (line,) = [x for x in printed.splitlines() if "letter A" in x]
        assert "100.0" in line
        asked = len(server.requests)
        assert asked == 4 * (1 + len(INJECTIONS)) * 2 * 2
        command("probe", tmp_path, "--oracle", f"chat:tiny@{server.url}", "--sample", 4, "--key-variable", "NONE")
        assert len(server.requests) == asked
