"""Simulated worlds: what is planted is found, what errs errs as said, and the same seed makes the same world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from discretion.audit import audit
from discretion.errors import DataError
from discretion.metrics.agreement import states
from discretion.metrics.priority import fit
from discretion.simulate import Oracle, Raters, Voter, World
from discretion.study import load_study
from discretion.vote import MISSING

PRINCIPLES = ("help", "harm", "honest", "brief", "kind")
LOGITS = np.array([1.2, 0.6, 0.0, -0.6, -1.2])
WORLD = World(PRINCIPLES, annotators=(Voter("a", LOGITS, arbitrary=0.12), Voter("b", LOGITS[::-1], arbitrary=0.3)))


@pytest.mark.slow
def test_the_audit_finds_what_was_planted() -> None:
    drawn = WORLD.draw(4000, 0)
    found = audit(drawn.table, replicates=300, splits=0, swaps=0).arbitrariness
    for name, planted in (("a", 0.12), ("b", 0.3)):
        row = found.filter((found["annotator"] == name) & (found["rule"] == "consensus")).row(0, named=True)
        assert row["low"] <= planted <= row["high"]
    assert np.array_equal(drawn.table.X, drawn.truth)  # an oracle that does not err


def test_priorities_come_back_where_two_clash() -> None:
    """With a few principles voting the Luce sides are pairs, and the fit is the planted logits."""
    drawn = replace(WORLD, active=0.15, together=0.5).draw(200_000, 1)
    y = drawn.table.annotator("a").values
    pairs = (np.abs(drawn.truth).sum(axis=1) == 2) & (states(drawn.truth)[0] == 2)
    X, y = drawn.truth[pairs].astype(np.float64), y[pairs]
    wins = ((y[:, None] == X) & (X != 0)).astype(float).T @ ((-y[:, None] == X) & (X != 0)).astype(float)
    logits = fit(wins).logits
    np.testing.assert_allclose(logits - logits.mean(), LOGITS, atol=0.06)


@pytest.mark.slow
def test_an_oracle_that_errs_makes_annotators_look_arbitrary() -> None:
    rates = []
    for wrong in (0.0, 0.1, 0.2):
        drawn = replace(WORLD, oracle=Oracle(wrong=wrong)).draw(6000, 2)
        assert (drawn.truth != drawn.table.X).mean() == pytest.approx(0.5 * wrong, abs=0.01)
        made = audit(drawn.table, replicates=0, splits=0, swaps=0).arbitrariness
        rates.append(made.filter(made["annotator"] == "a")["estimate"][0])
        true = audit(drawn.true_table, replicates=0, splits=0, swaps=0).arbitrariness
        assert true.filter(true["annotator"] == "a")["estimate"][0] == pytest.approx(0.12, abs=0.02)
    assert rates[0] < rates[1] < rates[2]


def test_position_shows_between_the_orders_only() -> None:
    drawn = replace(WORLD, oracle=Oracle(first_shown=0.2)).draw(3000, 3)
    assert drawn.table.oracle is not None
    first, second = drawn.table.oracle.values()
    assert ((first == 1) & (second == -1)).mean() > 2 * ((first == -1) & (second == 1)).mean() + 0.01
    missed = replace(WORLD, oracle=Oracle(missed=0.3, spurious=0.1)).draw(3000, 3)
    silent, voting = drawn.truth == 0, drawn.truth != 0
    assert (missed.table.X[missed.truth != 0] == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert (missed.table.X[missed.truth == 0] != 0).mean() == pytest.approx(0.1, abs=0.02)
    assert silent.any()
    assert voting.any()


def test_topics_and_clusters() -> None:
    world = replace(
        WORLD, topics=("health", "code"), topic_shares=(0.7, 0.3), active=[[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], cluster=4
    )
    drawn = world.draw(4000, 4)
    topics = drawn.table.attributes["topic"].to_numpy()
    assert (topics == "health").mean() == pytest.approx(0.7, abs=0.05)
    assert (drawn.truth[topics == "health", 2:] == 0).all()
    assert (drawn.truth[topics == "code", :2] == 0).all()
    prompts = drawn.table.attributes.group_by("prompt_id").agg("topic").with_columns()
    assert prompts["topic"].list.n_unique().max() == 1
    assert prompts["topic"].list.len().max() == 4


def test_raters_have_communities_and_some_deviate() -> None:
    people = Raters(
        60, 200, (Voter("city", LOGITS, 0.05), Voter("village", LOGITS[::-1], 0.05)), (0.5, 0.5), 0.2, "reversed"
    )
    drawn = replace(WORLD, raters=people).draw(1500, 5)
    assert {a.kind for a in drawn.table.annotators} == {"annotator", "group", "rater"}
    made = audit(drawn.table, replicates=0, splits=0, swaps=0)
    rates = made.raters["arbitrariness"].to_numpy()
    assert rates[drawn.deviant].min() > 0.8 > 0.2 > rates[~drawn.deviant].max()
    assert set(drawn.community.tolist()) == {0, 1}
    assert 4 <= drawn.deviant.sum() <= 24
    between = made.discrepancy.filter(
        (made.discrepancy["annotator"] == "city") & (made.discrepancy["other"] == "village")
        | (made.discrepancy["annotator"] == "village") & (made.discrepancy["other"] == "city")
    )
    assert between["estimate"][0] > 0.7


def test_the_same_seed_makes_the_same_world() -> None:
    one, two, other = WORLD.draw(50, 7), WORLD.draw(50, 7), WORLD.draw(50, 8)
    assert np.array_equal(one.table.X, two.table.X)
    assert np.array_equal(one.table.Y, two.table.Y)
    assert not np.array_equal(one.table.Y, other.table.Y)
    part = replace(WORLD, annotators=(Voter("a", LOGITS, missing=0.5, indifferent=0.2),)).draw(4000, 1)
    values = part.table.annotator("a").values
    assert (values == MISSING).mean() == pytest.approx(0.5, abs=0.03)
    assert (values == 0).mean() == pytest.approx(0.1, abs=0.03)


def test_a_written_world_audits_to_the_same_figures(tmp_path: Path) -> None:
    people = Raters(8, 30, (Voter("city", LOGITS), Voter("village", LOGITS[::-1])))
    drawn = replace(WORLD, oracle=Oracle(wrong=0.1, first_shown=0.1), raters=people).draw(60, 6)
    study = load_study(drawn.write(tmp_path / "w"))
    assert np.array_equal(study.table.X, drawn.table.X)
    for name in ("a", "b", "r0", "r7"):
        read = next(a for a in study.table.annotators if a.name.endswith(name))
        assert np.array_equal(read.dense(60), drawn.table.annotator(name).dense(60))
    assert any("city" in a.name for a in study.table.annotators)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"active": 1.2}, "share"),
        ({"together": [0.5, 0.5]}, "fits"),
        ({"topics": ()}, "topics"),
        ({"topic_shares": (0.2, 0.2)}, "shares"),
        ({"annotators": (Voter("a", [1.0]),)}, "5 finite"),
        ({"annotators": (Voter("a", LOGITS, arbitrary=-1),)}, "share"),
        ({"oracle": Oracle(wrong=0.6, missed=0.6)}, "more often"),
        ({"raters": Raters(0, 1, (Voter("c", LOGITS),))}, "raters"),
        ({"raters": Raters(1, 1, (Voter("c", LOGITS),), deviance="odd")}, "odd"),
    ],
)
def test_what_is_no_world_is_refused(more: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        replace(WORLD, **more)


def test_too_few_comparisons_are_refused() -> None:
    with pytest.raises(DataError, match="one comparison"):
        WORLD.draw(0, 0)
    with pytest.raises(DataError, match="no more than"):
        replace(WORLD, raters=Raters(2, 10, (Voter("c", LOGITS),))).draw(5, 0)


@pytest.mark.slow
def test_a_large_world_is_drawn() -> None:
    drawn = World([f"p{k}" for k in range(21)], annotators=(Voter("a", np.zeros(21)),)).draw(200_000, 0)
    assert drawn.table.X.shape == (200_000, 21)
    many = replace(WORLD, raters=Raters(5000, 200, (Voter("c", LOGITS),))).draw(20_000, 0)
    assert len(many.table.annotators) == 5003
