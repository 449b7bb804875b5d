"""Diagnosis: each planted failure is told, with its cases, and a sound study has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from markupsafe import escape

from discretion.audit import Audit, audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.comparison import Comparisons
from discretion.diagnosis import Diagnosis, diagnose
from discretion.errors import StudyError
from discretion.granularity import granularity
from discretion.metrics.agreement import CONSENSUS, states
from discretion.overruled import overruled
from discretion.report.page import page
from discretion.saved import save
from discretion.simulate import Raters, Voter, World
from discretion.table import Annotator, PreferenceTable

from .studies import command

NAMES = ("help", "harm", "honest", "fair", "calm")
LOGITS = (1.5, 1.0, 0.0, -1.0, -1.5)
TAX, MUSIC = "tax income refund deduct levy", "music song piano band melody"
QUIET = {"replicates": 200, "splits": 20, "swaps": 199}


def table(seed: int = 0, n: int = 800, active: float = 0.4, **voters: Voter) -> PreferenceTable:
    people = voters or {"human": Voter("human", LOGITS, 0.03), "model": Voter("model", LOGITS, 0.03)}
    return World(NAMES, active=active, together=0.8, annotators=tuple(people.values())).draw(n, seed).table


def told(found: Diagnosis) -> dict[str, tuple[str, ...]]:
    return {s.key: s.names for s in found.symptoms}


def with_texts(
    t: PreferenceTable, seed: int = 0, planted: tuple[np.ndarray, ...] = (), words_of: tuple[str, ...] = ()
) -> Audit:
    """Give each comparison three texts of random words; four of some words stand in planted prompts."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnop"))
    words = ["".join(rng.choice(letters, 5)) for _ in range(150)]
    texts = [[" ".join(rng.choice(words, 12)) for _ in range(3)] for _ in range(len(t))]
    for rows, extra in zip(planted, words_of, strict=True):
        for k in rows:
            texts[k][0] += " " + " ".join(rng.choice(extra.split(), 4, replace=False))
    frame = pl.DataFrame(
        {"id": t.ids.cast(pl.String), "prompt": [x[0] for x in texts], "first": [x[1] for x in texts],
         "second": [x[2] for x in texts]}
    )  # fmt: skip
    return audit(t, **QUIET, comparisons=Comparisons(frame))


@pytest.mark.slow
def test_a_sound_study_has_no_symptom() -> None:
    for seed in range(6):
        found = diagnose(audit(table(seed), **QUIET))
        assert found.symptoms == (), [s.title for s in found.symptoms]
        assert not found.overruled.low > 1


def test_a_silent_constitution_and_who_never_votes() -> None:
    t = table(active=0.15)
    X = t.X.copy()
    X[5:, 4] = 0
    t = replace(
        t.with_principles(X), attributes=pl.DataFrame({"topic": ["a" if k % 2 else "b" for k in range(len(t))]})
    )
    X[1::2][np.arange(0, 400, 2)] = 0
    found = diagnose(audit(t, **QUIET))
    (symptom,) = (s for s in found.symptoms if s.key == "silence")
    assert symptom.names == ("calm",)
    assert "topic is a" in symptom.evidence
    state, _, _ = states(t.X)
    cases = Cases(audit(t, replicates=0))
    assert len(cases.find(Query(**symptom.query))) == (state == 0).sum()


def test_noise_is_told_from_a_missing_principle() -> None:
    """Two annotators as arbitrary as each other: at random, or on the same cases, which share a word."""
    noisy = table(n=1200, human=Voter("human", LOGITS, 0.25), model=Voter("model", LOGITS, 0.25))
    apart = diagnose(with_texts(noisy))
    assert "missing principle" not in told(apart)
    assert {s.names[0] for s in apart.symptoms if s.key == "arbitrariness"} == {"human", "model"}
    t = table(n=1200)
    state, way, _ = states(t.X)
    rows = np.flatnonzero(state == CONSENSUS)
    tax, music = rows[:60], rows[60:110]
    together = np.concatenate([tax, music])
    changed = []
    for a in t.annotators:
        values = a.values.copy()
        values[together] = -way[together]
        changed.append(replace(a, values=values))
    audited = with_texts(replace(t, annotators=tuple(changed)), planted=(tax, music), words_of=(TAX, MUSIC))
    found = diagnose(audited)
    symptom = next(s for s in found.symptoms if s.key == "missing principle")
    assert found.overruled.lift > 3
    assert set(found.overruled.ids) >= {str(t.ids[int(k)]) for k in together}
    cases = Cases(audited)
    opened = cases.ids.gather(cases.find(Query(**symptom.query)))
    assert set(opened) == set(found.overruled.ids)  # what the symptom counts is what its link opens
    html = page(audited)
    for first in (w[0] for w in found.overruled.clusters["words"].to_list() if w):
        assert escape(Query(state="overruled", text=first).address()) in html
    words = found.overruled.words.filter(pl.col("where") == "prompt")
    assert set(words["word"]) == {*TAX.split(), *MUSIC.split()}
    assert any(word in symptom.evidence for word in TAX.split())
    first, second = found.overruled.clusters.head(2).iter_rows(named=True)
    for cluster, at in ((first, tax), (second, music)):
        inside = {str(t.ids[int(k)]) for k in at}
        assert len(inside & set(cluster["ids"])) > 0.9 * len(inside)
    assert set(first["words"]) <= set(TAX.split())


def test_hostile_texts_are_only_words() -> None:
    t = table(n=300)
    made = with_texts(t)
    assert made.comparisons is not None
    frame = made.comparisons.frame.with_columns(
        prompt=pl.lit("<script>alert(1)</script> \u202e \x1b[31m {{ 7*7 }}"), first=pl.lit(""), second=pl.lit("\x00")
    )
    diagnose(replace(made, comparisons=Comparisons(frame)))


def test_principles_that_vote_as_one_and_that_only_add_conflict() -> None:
    t = table(n=1500)
    X = t.X.copy()
    X[:, 1] = np.where(np.random.default_rng(0).random(len(t)) < 0.97, X[:, 0], X[:, 1])
    others = np.sign(np.delete(X, 4, axis=1).sum(axis=1, dtype=int))
    X[:, 4] = np.where(np.random.default_rng(1).random(len(t)) < 0.3, -others, 0)  # it objects, and nothing else
    found = diagnose(audit(t.with_principles(X), **QUIET))
    names = [s.names for s in found.symptoms if s.key == "redundant"]
    assert names == [("help", "harm")]
    assert ("calm",) in [s.names for s in found.symptoms if s.key == "conflicting"]
    assert found.principles.filter(pl.col("principle") == "calm")["alone"].item() == 0


def test_a_policy_that_lost_what_its_reward_model_holds() -> None:
    voters = {
        "human": Voter("human", LOGITS, 0.03),
        "reward": Voter("reward", LOGITS, 0.03),
        "policy": Voter("policy", tuple(-w for w in LOGITS), 0.03),
        "faithful": Voter("faithful", LOGITS, 0.03),
    }
    t = table(n=3000, active=0.5, **voters)
    sources = {"reward": "reward: sign", "policy": "policy: sum", "faithful": "policy: sum"}
    t = replace(t, annotators=tuple(replace(a, source=sources.get(a.name, "")) for a in t.annotators))
    made = audit(t, **QUIET)
    found = diagnose(made)
    assert found.chains == (("policy", "reward"), ("faithful", "reward"))
    assert [s.names for s in found.symptoms if s.key == "hacking"] == [("policy", "reward")]
    assert "hacking" not in told(diagnose(made, chains=[("reward", "policy")]))
    with pytest.raises(StudyError, match="nobody"):
        diagnose(made, chains=[("policy", "nobody")])


def test_raters_overrule_together_and_their_groups_do_not_count_twice() -> None:
    people = Raters(40, 120, (Voter("people", LOGITS, 0.1),))
    t = World(NAMES, active=0.4, together=0.85, raters=people).draw(600, 0).table
    steady = overruled(audit(t, replicates=0))
    assert steady.voters == 40
    assert steady.low < 1 < steady.high * 1.2
    state, way, _ = states(t.X)
    some = np.flatnonzero(state == CONSENSUS)[:40]
    changed = tuple(
        replace(a, values=np.where(np.isin(a.rows, some), -way[a.rows], a.values).astype(np.int8))
        if a.kind == "rater" else a for a in t.annotators
    )  # fmt: skip
    planted = overruled(audit(replace(t, annotators=changed), replicates=0))
    assert planted.low > 1.5
    assert {str(t.ids[int(k)]) for k in some} <= set(planted.ids)


def test_granularity_ends_without_conflict_and_begins_with_the_audit() -> None:
    made = audit(table(), **QUIET)
    found = granularity(made)
    whole = found.merging.filter(pl.col("principles") == 5)
    for state in ("consensus", "conflict", "indifference"):
        (mine,) = whole.filter(pl.col("figure") == state)["estimate"]
        (its,) = made.states.filter(pl.col("state") == state)["estimate"]
        assert mine == pytest.approx(its)
    rates = made.arbitrariness.filter(pl.col("rule") == "consensus")
    for who, rate in rates.select("annotator", "estimate").iter_rows():
        mine = whole.filter((pl.col("figure") == "arbitrariness") & (pl.col("annotator") == who))["estimate"].item()
        assert mine == pytest.approx(rate)
    (apart,) = whole.filter(pl.col("figure") == "discrepancy")["estimate"]
    assert apart == pytest.approx(made.discrepancy["estimate"][0])
    last = found.merging.filter((pl.col("principles") == 1) & (pl.col("figure") == "conflict"))
    assert last["estimate"].item() == 0
    full = found.dropping.filter((pl.col("principles") == 5) & (pl.col("figure") == "conflict"))
    fewer = found.dropping.filter((pl.col("principles") == 2) & (pl.col("figure") == "conflict"))
    assert full["mean"].item() == pytest.approx(whole.filter(pl.col("figure") == "conflict")["estimate"].item())
    assert fewer["high"].item() < full["mean"].item()


def test_an_audit_without_annotators_of_use_is_diagnosed_too() -> None:
    t = table(n=400)
    silent = replace(t, X=np.zeros_like(t.X), oracle=None, annotators=(t.annotators[0],))
    found = diagnose(audit(silent, replicates=0))
    assert told(found)["silence"] == NAMES
    one = PreferenceTable.from_arrays(np.ones((3, 1), np.int8), {"x": Annotator("x", np.ones(3, np.int8)).values})
    assert diagnose(audit(one, replicates=0)).symptoms == ()


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = save(audit(table(active=0.15), **QUIET), tmp_path / "a")
    done = command("diagnose", folder)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(len(line) for line in text.splitlines() if "discretion view" not in line) <= 80
    assert "The constitution is silent" in text
    made = json.loads(command("diagnose", folder, "--json").stdout)
    assert made["symptoms"][0]["cases"] == "state=indifference"
    assert {"principles", "pairs", "overruled", "merging", "groups", "dropping", "chains"} <= set(made)
    assert b"nobody" in command("diagnose", folder, "--chain", "human=nobody").stderr
    assert command("diagnose", folder, "--chain", "human").returncode == 2
