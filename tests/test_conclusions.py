"""Conclusions: what was planted is found and named with the counts of the frames, and luck makes no headline."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
import scipy.stats

from discretion.audit import Audit, audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.conclusions import _heads, _looks_settled
from discretion.findings import Finding, findings
from discretion.metrics.resampling import share_interval
from discretion.table import Annotator, PreferenceTable
from discretion.vote import Votes
from discretion.wording import chance, share, span

from .studies import votes_table

QUICK = {"replicates": 5, "swaps": 4, "splits": 2, "threads": 1}
TESTED = {"replicates": 200, "swaps": 199, "splits": 10, "threads": 1}


def by_key(made: Audit, at_most: int = 6) -> dict[str, Finding]:
    return {f.key: f for f in findings(made, at_most)}


def opposed(n: int, follows: Mapping[str, float], seed: int = 0) -> PreferenceTable:
    """Two principles that always clash; each annotator follows the first in a given share of the cases."""
    rng = np.random.default_rng(seed)
    first = rng.choice(np.array([-1, 1], np.int8), n)
    X = np.stack([first, -first], axis=1)
    Y = {name: np.where(rng.random(n) < rate, first, -first) for name, rate in follows.items()}
    return PreferenceTable.from_arrays(X, Y, principles=["Be honest", "Be kind"])


def ranked(orders: Mapping[str, tuple[int, ...]], n: int = 600, seed: int = 0) -> PreferenceTable:
    """Pairs of principles clash; each annotator mostly follows the one that comes first in its order."""
    rng = np.random.default_rng(seed)
    p = len(next(iter(orders.values())))
    X = np.zeros((n, p), np.int8)
    Y = {name: np.zeros(n, np.int8) for name in orders}
    for row in range(n):
        a, b = rng.choice(p, 2, replace=False)
        X[row, a], X[row, b] = 1, -1
        for name, order in orders.items():
            right = order.index(a) < order.index(b)
            Y[name][row] = 1 if right == (rng.random() < 0.85) else -1
    return PreferenceTable.from_arrays(X, Y, principles=[f"P{c}" for c in range(p)])


def stated(X) -> Finding:
    X = np.asarray(X, np.int8)
    return by_key(audit(PreferenceTable.from_arrays(X, np.ones(len(X), np.int8)), replicates=0))["states"]


@pytest.mark.parametrize(
    ("agree", "clash", "silent", "title", "figure", "state"),
    [
        (0, 0, 30, "No principle prefers a response in any case", "100 %", "indifference"),
        (20, 20, 20, "The principles clash in a third of the cases", "33.3 %", "conflict"),
        (17, 39, 4, "The principles clash in nearly two thirds of the cases", "65.0 %", "conflict"),
        (0, 40, 0, "The principles clash in all of the cases", "100 %", "conflict"),
        (25, 5, 30, "In half of the cases no principle has a say", "50.0 %", "indifference"),
        (100, 30, 70, "In more than a third of the cases no principle has a say", "35.0 %", "indifference"),
        (101, 33, 66, "The principles leave about half of the cases open: they clash or are silent", "49.5 %",
         "indifference"),
        (60, 10, 10, "The principles mostly agree: in three quarters of the cases", "75.0 %", "consensus"),
        (30, 0, 0, "The principles mostly agree: in all of the cases", "100 %", "consensus"),
    ],
)  # fmt: skip
def test_the_states_that_matter_make_the_headline(
    agree: int, clash: int, silent: int, title: str, figure: str, state: str
) -> None:
    found = stated([[1, 0]] * agree + [[1, -1]] * clash + [[0, 0]] * silent)
    assert (found.title, found.figure, found.query) == (title, figure, {"state": state})
    for n in (agree, clash, silent):
        assert f"in {n} (" in found.text


def test_one_principle_cannot_clash() -> None:
    found = stated([[1]] * 12 + [[0]] * 4)
    assert found.title == "The principle prefers a response in three quarters of the cases"
    assert "Of only 16 cases" in found.text
    assert "clash" not in found.title + found.text


def test_the_interval_of_what_is_left_open_mirrors_that_of_consensus() -> None:
    made = audit(PreferenceTable.from_arrays([[1, 0]] * 101 + [[1, -1]] * 33 + [[0, 0]] * 66, [1] * 200), replicates=0)
    row = made.states.row(0, named=True)
    assert span(1 - row["high"], 1 - row["low"]) in by_key(made)["states"].uncertainty


def test_who_is_more_arbitrary_is_named_with_the_counts_of_the_frames() -> None:
    made = audit(votes_table(500, arbitrary={"people": 0.1, "model": 0.4, "careful": 0.02}), **TESTED)
    found = by_key(made)["arbitrariness"]
    rates = {r["annotator"]: r for r in made.arbitrariness.filter(pl.col("rule") == "consensus").to_dicts()}
    people, model, careful = (rates[n] for n in ("people", "model", "careful"))
    assert found.title == (
        f"people goes against agreeing principles in {share(people['estimate'])}, model in {share(model['estimate'])}"
    )
    assert found.figure == share(people["estimate"])
    assert f"in {people['count']:.0f} of {people['n']:.0f} cases" in found.text
    assert f"model does so most ({share(model['estimate'])}, {model['count']:.0f} of {model['n']:.0f})" in found.text
    assert f"careful least ({share(careful['estimate'])}" in found.text
    gap = made.differences.filter((pl.col("annotator") == "people") & (pl.col("other") == "model")).row(0, named=True)
    assert f"model lies {-100 * gap['estimate']:.1f} points higher" in found.uncertainty
    assert f"({-100 * gap['high']:.1f}–{-100 * gap['low']:.1f})" in found.uncertainty
    assert Cases(made).count(Query(**found.query)) == people["count"]


def test_a_reference_that_is_the_most_arbitrary_is_set_beside_the_least() -> None:
    made = audit(votes_table(500, arbitrary={"people": 0.4, "model": 0.1}), **TESTED)
    found = by_key(made)["arbitrariness"]
    assert found.title.startswith("people goes against agreeing principles in ")
    assert ", model in " in found.title
    assert "Nobody does so more often; model does so least" in found.text
    assert re.search(r"model lies [\d.]+ points lower \((\d+\.\d)–(\d+\.\d)\)", found.uncertainty)


def test_annotators_that_cannot_be_told_apart_are_not() -> None:
    made = audit(votes_table(200, 3, arbitrary={"people": 0.2, "model": 0.2}), **TESTED)
    found = by_key(made)["arbitrariness"]
    assert "model" not in found.title + found.text
    assert "nobody else's rate lies clearly above or below it" in found.uncertainty


def test_labels_that_are_all_alike_are_held_against_a_coin() -> None:
    table = votes_table(200)
    alike = dataclasses.replace(table, annotators=(Annotator("chosen", np.ones(200, np.int8)),))
    assert "Tossing a coin would give 50 %" in by_key(audit(alike, **QUICK))["arbitrariness"].text
    made = audit(table, **QUICK)
    assert "people's own labels in random order would give" in by_key(made)["arbitrariness"].text


def test_nobody_against_a_consensus() -> None:
    made = audit(votes_table(80, arbitrary={"saint": 0.0}), **QUICK)
    found = by_key(made)["arbitrariness"]
    assert (found.title, found.figure) == ("saint never goes against agreeing principles", "0 %")
    assert found.query["side"] == "with-consensus"


def test_the_pair_that_is_settled_makes_the_headline() -> None:
    made = audit(opposed(60, {"panel": 0.9}), **QUICK)
    found = by_key(made)["supremacy"]
    row = made.supremacy.filter(pl.col("principle") == "Be honest").row(0, named=True)
    assert found.title == "When “Be honest” and “Be kind” clash, panel follows “Be honest”"
    assert found.figure == f"{row['count']:.0f} of 60"
    assert span(row["low"], row["high"]) in found.uncertainty
    assert Cases(made).count(Query(**found.query)) == row["count"]


def test_a_pair_that_may_be_luck_makes_none() -> None:
    made = audit(opposed(30, {"panel": 0.5}, seed=1), **QUICK)
    found = by_key(made)["supremacy"]
    assert found.title == "When principles clash, panel clearly favours no principle"
    assert found.figure == "0 of 1"
    assert "The clearest pair is" in found.text


@pytest.mark.slow
def test_coins_seldom_make_the_headline_and_a_follower_does() -> None:
    rng = np.random.default_rng(7)
    X = rng.choice(np.array([-1, 0, 1], np.int8), (120, 6))

    def clear(Y: np.ndarray) -> bool:
        made = audit(PreferenceTable.from_arrays(X, Y), replicates=0, threads=1)
        return by_key(made)["supremacy"].title.startswith("When “")

    coins = sum(clear(rng.choice(np.array([-1, 1], np.int8), 120)) for _ in range(60))
    assert coins <= 8  # 5 % at most of 60 are 3; one in 100 would exceed 8
    assert clear(np.where(X[:, 0] != 0, X[:, 0], 1))


def test_how_often_coins_look_settled_is_exact() -> None:
    z = scipy.stats.norm.ppf(0.975)
    for m in (1, 3, 4, 5, 6, 10, 47, 200):
        k = np.arange(m + 1.0)
        _, low, high = share_interval(k, np.full(m + 1, float(m)))
        exact = scipy.stats.binom.pmf(k, m, 0.5)[(low > 0.5) | (high < 0.5)].sum()
        assert _looks_settled(m, z) == pytest.approx(exact, abs=1e-12)
    for m in (3, 60, 201, 5000):
        for k in (m // 2, m // 2 + 1, round(0.55 * m), m):
            assert _heads(k, m) == pytest.approx(scipy.stats.binom.sf(k - 1, m, 0.5), abs=5e-4)


def test_clusters_count_as_what_they_are_worth() -> None:
    table = opposed(40, {"panel": 0.9})
    tenfold = table.subset(np.repeat(np.arange(40), 10))
    tenfold = dataclasses.replace(
        tenfold, ids=pl.Series(range(400)), attributes=pl.DataFrame({"prompt": np.repeat(np.arange(40), 10)})
    )
    alone, clustered = (by_key(audit(t, replicates=0, cluster=c))["supremacy"] for t, c in
                        ((table, None), (tenfold, "prompt")))  # fmt: skip
    assert clustered.figure.endswith(" of 400")
    assert "p < 0.001" in clustered.uncertainty
    unlike = opposed(8, {"panel": 0.5}, seed=2)  # a hundred copies of eight tosses settle nothing
    many = unlike.subset(np.repeat(np.arange(8), 100))
    many = dataclasses.replace(
        many, ids=pl.Series(range(800)), attributes=pl.DataFrame({"prompt": np.repeat(np.arange(8), 100)})
    )
    for made in (audit(unlike, replicates=0), audit(many, replicates=0, cluster="prompt")):
        assert by_key(made)["supremacy"].title.endswith("clearly favours no principle")
    assert alone.title == clustered.title


def test_who_ranks_otherwise_is_named() -> None:
    table = ranked({"panel": (0, 1, 2, 3, 4), "twin": (0, 1, 2, 3, 4), "rebel": (2, 3, 4, 0, 1)})
    made = audit(table, **TESTED)
    found = by_key(made)["discrepancy"]
    row = made.discrepancy.filter((pl.col("annotator") == "panel") & (pl.col("other") == "rebel")).row(0, named=True)
    assert found.title == "rebel ranks the principles least like panel"
    assert found.figure == share(row["estimate"])
    assert f"of only {row['pairs']:.0f} pairs of principles" in found.text
    assert "twin cannot be told from panel, which is no proof of likeness: it may differ in up to" in found.text
    assert chance("q", row["q_value"]) in found.uncertainty
    assert found.query == {"state": "conflict", "annotator": "rebel", "other": "panel", "side": "differ"}
    ranks = by_key(made)["supremacy"].text
    assert "“P0” ranks first" in ranks
    assert "“P4” last" in ranks


def test_where_interval_and_test_disagree_both_are_told() -> None:
    made = audit(ranked({"panel": (0, 1, 2), "mirror": (2, 1, 0)}, n=300), **TESTED)
    row = made.discrepancy.row(0, named=True)
    assert row["q_value"] > 0.05
    assert row["low"] > row["floor"]
    found = by_key(made)["discrepancy"]
    assert found.title == "mirror seems to rank the principles unlike panel, but the test leaves it open"
    assert found.figure == "100 %"
    assert "the test does not rule out chance" in found.text


@pytest.mark.parametrize("others", [["twin"], ["twin", "triplet"]])
def test_rankings_that_cannot_be_told_apart_are_not_called_alike(others: list[str]) -> None:
    made = audit(ranked(dict.fromkeys(["panel", *others], (0, 1, 2, 3, 4))), **TESTED)
    found = by_key(made)["discrepancy"]
    one = len(others) == 1
    assert "annot be told from panel" in found.title.replace("can be told", "cannot be told")
    assert found.title.startswith("twin's ranking" if one else "No annotator's ranking")
    assert (found.figure == "0 of 2") != one
    assert "no proof of likeness" in found.text
    highs = made.discrepancy.filter(pl.col("annotator") == "panel")["high"]
    assert f"may differ in up to {share(highs.max())} of pairs" in found.text
    for text in (found.title, found.text):
        assert not re.search(r"\bsame\b|\bequal|\balike\b", text)


def judged(n: int, place: float, both: bool = True, name: str = "judge") -> Annotator:
    """A judge that picks the response shown first in a given share of the cases, and otherwise keeps its verdict."""
    rng = np.random.default_rng(n)
    goes = rng.random(n) < place
    side = rng.random(n) < 0.5
    probabilities = np.zeros((2, n, 3))
    probabilities[0, :, 0] = np.where(goes, 1, side)
    probabilities[1, :, 0] = np.where(goes, 0, side)
    probabilities[..., 1] = 1 - probabilities[..., 0]
    probabilities[1] = probabilities[1] if both else np.nan
    votes = Votes(probabilities)
    return Annotator(name, votes.reconciled(), votes=votes)


def test_a_judge_that_goes_by_position_stands_before_the_discrepancy() -> None:
    table = votes_table(150).with_annotators(judged(150, 0.8))
    made = audit(table, reference="people", **TESTED)
    keys = [f.key for f in findings(made, 5)]
    assert keys == ["states", "arbitrariness", "supremacy", "position", "discrepancy"]
    assert [f.key for f in findings(made)] == keys[:4]
    found = by_key(made)["position"]
    row = made.habits.filter((pl.col("who") == "judge") & pl.col("habit").str.starts_with("same")).row(0, named=True)
    assert found.title == (f"judge keeps its verdict in only {share(row['estimate'])} when the responses swap places")
    assert "it chose the response shown first, whichever that was" in found.text
    left = int((np.abs(table.annotator("judge").values) == 1).sum())
    assert f"leaves {left} preferences" in found.text
    assert Cases(made).count(Query(**found.query)) == row["n"] - row["count"]


@pytest.mark.parametrize(("place", "shown"), [(0.35, True), (0.05, False)])
def test_a_judge_that_wavers_stands_last_and_a_steady_one_nowhere(place: float, shown: bool) -> None:
    made = audit(votes_table(200).with_annotators(judged(200, place)), reference="people", **TESTED)
    keys = [f.key for f in findings(made, 5)]
    assert ("position" in keys) == shown
    assert "position" not in [f.key for f in findings(made)]


def test_an_oracle_that_goes_by_position_is_severe() -> None:
    table = votes_table(100)
    one = judged(100, 0.5).votes.probabilities
    oracle = np.stack([one, one, one[..., [1, 0, 2]], one], axis=2)
    table = dataclasses.replace(table, oracle=Votes(oracle), X=Votes(oracle).reconciled())
    found = by_key(audit(table, **QUICK))["position"]
    assert found.title.startswith("The oracle keeps its verdict in only ")
    assert "counts as silence of the principle" in found.text
    assert list(by_key(audit(table, **QUICK)))[-2:] == ["position", "discrepancy"]


def test_an_annotator_that_goes_by_length_is_found_where_the_principles_do_not() -> None:
    table = votes_table(200)
    rng = np.random.default_rng(1)
    lengths = {"length_first": rng.integers(10, 99, 200), "length_second": rng.integers(10, 99, 200)}
    longer = np.sign(lengths["length_first"] - lengths["length_second"]).astype(np.int8)
    table = dataclasses.replace(table, attributes=pl.DataFrame(lengths)).with_annotators(Annotator("wordy", longer))
    made = audit(table, reference="people", **TESTED)
    found = by_key(made)["length"]
    assert found.title.startswith("wordy prefers the longer response in 100 %, the principles in ")
    assert findings(made, 5)[-1] == found
    assert found not in findings(made)


def test_what_cannot_be_told_from_the_oracle_by_name_is_not_told() -> None:
    table = votes_table(100).with_annotators(judged(100, 1.0, name="oracle"))
    assert "position" not in by_key(audit(table, reference="people", **QUICK))
