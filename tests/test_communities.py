"""Communities: planted ones are told apart, noise is not, weights move figures to the stated population."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from discretion.audit import Audit, audit
from discretion.communities import ALL, DEALS, OTHERS, REWEIGHTED, SWAPS, Communities, communities
from discretion.communities_document import document
from discretion.dealing import deal
from discretion.errors import ColumnError, DataError, DiscretionError, ReadError
from discretion.rater_labels import ARBITRARINESS, RaterLabels
from discretion.saved import save
from discretion.simulate import Drawn, Raters, Voter, World
from discretion.sources.population import read_population
from discretion.table import Annotator, PreferenceTable
from discretion.terminal_communities import show_communities

from .studies import command

CITY, VILLAGE = (2.0, 1.0, 0.0, -1.0, -2.0), (-2.0, -1.0, 0.0, 1.0, 2.0)
NAMES = ("help", "harm", "honest", "fair", "calm")


def world(seed: int = 0, *, same: bool = False, count: int = 60, each: int = 120, village: float = 0.05) -> Drawn:
    voters = (Voter("city", CITY, 0.05), Voter("village", CITY if same else VILLAGE, village))
    return World(NAMES, active=0.6, together=0.7, raters=Raters(count, each, voters, (0.7, 0.3))).draw(800, seed)


def made(drawn: Drawn, **about: list[str]) -> Audit:
    """An audit of it, more known of its raters."""
    changed = []
    for a in drawn.table.annotators:
        if a.kind == "rater":
            more = {name: values[int(a.name[1:]) % len(values)] for name, values in about.items()}
            a = replace(a, about={**a.about, **more})
        changed.append(a)
    return audit(replace(drawn.table, annotators=tuple(changed)), replicates=0, splits=0, swaps=0)


def alone(seed: int, *, village: tuple[float, ...], count: int = 40, each: int = 40) -> Audit:
    """Raters of whom each labels comparisons of its own, as PRISM's do: no two have one in common."""
    voters = (Voter("city", CITY, 0.05), Voter("village", village, 0.05))
    table = World(NAMES, active=0.6, together=0.7, annotators=voters).draw(count * each, seed).table
    raters = []
    for k in range(count):
        community = voters[k % 2].name
        rows = np.arange(k * each, (k + 1) * each)
        values = table.annotator(community).values[rows]
        raters.append(
            Annotator(f"r{k}", values, rows.astype(np.int32), kind="rater", about={"community": community})
        )  # fmt: skip
    return audit(replace(table, annotators=tuple(raters), oracle=None), replicates=0, splits=0, swaps=0)


def printed(found: Communities, width: int = 80) -> str:
    out = io.StringIO()
    show_communities(found, "study", NAMES, Console(file=out, width=width))
    return out.getvalue()


def test_raters_are_dealt_where_no_label_can_be_swapped() -> None:
    found = communities(alone(0, village=VILLAGE), ["community"], replicates=20, clusters=False)
    (row,) = found.tests.to_dicts()
    assert (row["test"], row["common"]) == (DEALS, 0)
    assert row["p"] == row["q"] == 1 / 200
    assert found.audit is not None
    assert found.audit.discrepancy["p_value"].is_nan().any()  # the control: swaps say nothing
    assert np.isnan(found.gap)
    assert found.gap_comparisons == 0
    assert found.why_no_alpha == "Alpha is undefined since no comparison has labels of two of these raters."
    text = " ".join(printed(found).split())
    for told in (found.why_no_alpha, "dealt to the two at random, 199 times", "No comparison has two labels"):
        assert told in text
    shared = communities(made(world()), ["community"], replicates=20, clusters=False)
    assert shared.tests["test"].to_list() == [SWAPS]
    assert shared.why_no_alpha == ""


@pytest.mark.slow
def test_deals_hold_their_level_where_raters_of_one_community_differ() -> None:
    """Two kinds of raters, in no relation to the community: swaps (the control) take who was drawn for who they are."""
    deals = swaps = 0
    for seed in range(25):
        audited = made(world(seed, count=40, each=60), half=["a", "b"])
        found = communities(audited, ["half"], replicates=60, deals=99, clusters=False, threads=1)
        deals += found.tests["p_deals"].item() < 0.05
        swaps += found.tests["p"].item() < 0.05
    assert deals <= 4
    assert swaps > deals


@pytest.mark.slow
def test_dealing_holds_its_level() -> None:
    small = 0
    for seed in range(60):
        found = communities(
            alone(seed, village=CITY), ["community"], replicates=2, deals=99, clusters=False, threads=1
        )  # fmt: skip
        small += found.tests["p"].item() < 0.05
    assert small <= 8


def test_what_is_dealt_is_what_the_audit_has() -> None:
    """The observation among the deals is the discrepancy of the communities' audit, with many raters a comparison."""
    drawn = world(count=30, each=60)
    labels = RaterLabels.of(drawn.table)
    of = np.array([k % 3 for k in range(30)])
    pairs = [(0, 1), (0, 2), (1, 2)]
    dealt = deal(labels, of, pairs, 9, np.random.default_rng(0))
    found = communities(made(drawn, third=["a", "b", "c"]), ["third"], replicates=0, clusters=False)
    assert found.names == ("a", "b", "c")
    assert found.audit is not None
    rows = found.audit.discrepancy.filter(pl.col("annotator") != ALL)
    np.testing.assert_allclose(dealt.estimate, rows["estimate"])
    assert ((dealt.p >= 0.1) & (dealt.p <= 1)).all()


@pytest.mark.slow
def test_who_labels_what_is_no_difference() -> None:
    """Raters alike in two communities that label easy cases of their own, and a few hard ones together."""
    small, pooled = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        chance = np.r_[np.full(200, 0.95), np.full(10, 0.55)]
        raters = []
        for k in range(60):
            rows = np.r_[np.arange(100) + 100 * (k % 2), np.arange(200, 210)]
            values = np.where(rng.random(110) < chance[rows], 1, -1).astype(np.int8)
            about = {"community": ("city", "village")[k % 2]}
            raters.append(Annotator(f"r{k}", values, rows.astype(np.int32), kind="rater", about=about))
        X = rng.choice(np.array([-1, 0, 1], np.int8), (210, 2))
        table = PreferenceTable.from_arrays(X, {"people": np.ones(210, np.int8)}).with_annotators(*raters)
        audited = audit(table, replicates=0, splits=0, swaps=0)
        found = communities(audited, ["community"], replicates=0, clusters=False)
        assert found.gap_comparisons == 10
        assert abs(found.gap) < 0.06
        small += found.gap_p < 0.05
        same = {(a, b): s for a, b, s in found.agreement.select("community", "other", "same").iter_rows()}
        pooled.append(same["city", "city"] - same["city", "village"])
    assert small <= 4
    assert min(pooled) > 0.1  # the control: pairs pooled over comparisons


def test_values_that_are_names_of_ours_are_told_from_them() -> None:
    audited = made(world(count=40, each=30), note=["all raters", "(unknown)", "(others)", "all raters, reweighted"])
    shares = {"note": dict.fromkeys(("all raters", "(unknown)", "(others)", "all raters, reweighted"), 25.0)}
    found = communities(audited, ["note"], population=shares, replicates=0, clusters=False)
    assert set(found.names) == {f"note: {value}" for value in shares["note"]}
    crossed = made(world(count=40, each=30), one=["a × b", "a"], other=["c", "b × c"])
    found = communities(crossed, ["one", "other"], replicates=0, clusters=False)
    assert set(found.names) == {"one: a × b × other: c", "one: a × other: b × c"}


def test_long_names_and_all_numbers_stand_whole_in_80_columns() -> None:
    race = ["Black or African American", "Native Hawaiian or other Pacific Islander"]
    gender = ["Woman", "Woman", "Non-binary / third gender, self-described"]
    audited = made(world(count=60), race=race, gender=gender)
    found = communities(audited, ["race", "gender"], replicates=20, clusters=False)
    assert len(found.names) == 4
    text = printed(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for heading in ("community", "raters", "labels", "alpha", "arbitrary", "apart", "floor", "pairs", "test"):
        assert heading in text
    (line,) = (x.split() for x in text.splitlines() if x.strip().startswith(ALL))
    assert len(line) == 8  # two words of a name, and six numbers
    for row in found.tests.to_dicts():
        assert f" {row['q']:.2f} " in text or f" {row['q']:.3f} " in text
    told = document(found, NAMES)
    assert {r["annotator"] for r in told["supremacy"]} == {ALL, *found.names}
    assert {r["community"] for r in told["labels"]} == {ALL, *found.names}


def test_the_order_of_principles_stands_beside_the_communities() -> None:
    found = communities(made(world()), ["community"], replicates=20, clusters=False)
    lines = [x.split() for x in printed(found).splitlines()]
    ranks = {x[0]: (x[1], x[3]) for x in lines if len(x) == 5 and x[0] in NAMES and x[2].startswith("(")}
    assert ranks["help"] == ("1", "5")
    assert ranks["calm"] == ("5", "1")


def test_planted_communities_are_told_apart_and_found_unasked() -> None:
    drawn = world()
    found = communities(made(drawn), ["community"], replicates=200)
    assert found.names == ("city", "village")
    assert found.audit is not None
    assert found.audit.annotators == (ALL, "city", "village")
    row = found.audit.discrepancy.row(
        by_predicate=(pl.col("annotator") == "city") & (pl.col("other") == "village"), named=True
    )
    assert row["estimate"] > 0.8
    assert row["q_value"] < 0.05
    assert found.gap > 0.02
    assert found.gap_p < 0.05
    assert found.groups is not None
    assert found.groups.k == 2
    crossed = {(c, g): n for c, g, n in found.crossed.iter_rows()}
    assert crossed.get(("city", 2), 0) + crossed.get(("village", 1), 0) <= 1
    assert found.groups.stability.mean > 0.8
    assert set(found.members.columns) == {"rater", "community", "group", "chance"}


@pytest.mark.slow
def test_who_differs_in_nothing_is_not_told_apart() -> None:
    small = []
    for seed in range(12):
        found = communities(
            made(world(seed, same=True, count=30, each=60)), ["community"], replicates=0, clusters=False
        )
        small.append(found.gap_p)
    assert sum(p < 0.05 for p in small) <= 2
    one = communities(made(world(same=True)), ["community"], replicates=200)
    assert one.audit is not None
    assert one.audit.discrepancy["q_value"].min() > 0.05
    assert one.groups is not None
    assert one.groups.k == 1


def test_noise_shows_in_alpha_and_in_labels_and_not_in_the_ranking() -> None:
    drawn = world(same=True, count=80, village=0.3)
    found = communities(made(drawn), ["community"], replicates=200, clusters=False)
    alphas = {r["community"]: r for r in found.alpha.iter_rows(named=True)}
    assert alphas["village"]["high"] < alphas["city"]["low"]
    rates = {r["community"]: r for r in found.labels.filter(pl.col("measure") == ARBITRARINESS).iter_rows(named=True)}
    assert rates["city"]["low"] < 0.05 < rates["city"]["high"]
    assert rates["village"]["low"] < 0.3 < rates["village"]["high"]
    assert found.audit is not None
    row = found.audit.discrepancy.row(
        by_predicate=(pl.col("annotator") == "city") & (pl.col("other") == "village"), named=True
    )
    assert row["p_value"] > 0.01


def test_weights_move_to_the_population() -> None:
    """City is overdrawn: 70 % of raters, 20 % of the population, and far less arbitrary."""
    drawn = world(count=200, each=60, village=0.3)
    share = {"community": {"city": 0.2, "village": 0.8}}
    found = communities(made(drawn), ["community"], population=share, replicates=100, clusters=False)
    row = found.reweighting.row(by_predicate=pl.col("measure") == ARBITRARINESS, named=True)
    truth = 0.2 * 0.05 + 0.8 * 0.3
    assert row["high"] < truth
    assert row["reweighted_low"] < truth < row["reweighted_high"]
    assert found.weights is not None
    assert found.weights.effective < 200
    assert found.audit is not None
    assert REWEIGHTED in found.audit.annotators
    apart = {
        (a, b): e for a, b, e in found.audit.discrepancy.select("annotator", "other", "estimate").iter_rows()
    }  # fmt: skip
    assert apart[REWEIGHTED, "village"] < apart[ALL, "village"]
    assert found.members["weight"].mean() == pytest.approx(1.0)
    percent = {"community": {"city": 20.1, "village": 79.8}}  # rounded, as published ones are
    again = communities(made(drawn), population=percent, replicates=0, clusters=False)
    np.testing.assert_allclose(again.members["weight"], found.members["weight"], rtol=0.02)
    assert again.unknown == {"community": 0}


def test_raters_of_unknown_value_are_counted() -> None:
    drawn = world(count=30, each=30)
    changed = [replace(a, about={}) if a.name in ("r1", "r2", "r3") else a for a in drawn.table.annotators]
    audited = audit(replace(drawn.table, annotators=tuple(changed)), replicates=0, splits=0, swaps=0)
    share = {"community": {"city": 0.5, "village": 0.5}}
    found = communities(audited, population=share, replicates=0, clusters=False)
    assert found.unknown == {"community": 3}
    assert "leaves as it is: 3 of unknown community" in " ".join(printed(found).split())
    assert document(found, NAMES)["weighting"]["unknown"] == {"community": 3}


def test_attributes_are_crossed_and_small_communities_stand_together() -> None:
    drawn = world()
    ages = ["young"] * 9 + ["old"]
    found = communities(made(drawn, age=ages), ["community", "age"], least=6, replicates=0, clusters=False)
    assert found.names[0] == "city × young"
    assert found.names[-1] == OTHERS
    assert found.of.shape == (60,)
    sizes = np.bincount(found.of)
    assert (np.diff(sizes[:-1]) <= 0).all()
    assert (sizes[:-1] >= 6).all()
    total = found.alpha.filter(pl.col("community") == ALL)["labels"].item()
    assert total <= 60 * 120


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    audited = made(world(count=12, each=30), place=["north", "south"])
    with pytest.raises(ColumnError, match=r"country.*community.*place"):
        communities(audited, ["country"])
    cases: list[tuple[dict[str, dict[str, float]], str]] = [
        ({"country": {"x": 1.0}}, "country"),
        ({"place": {"north": 0.4, "south": 0.4}}, "sum 0.8"),
        ({"place": {"north": 40, "south": 40}}, r"sum 80.*100 for percentages"),
        ({"place": {"north": -0.5, "south": 1.5}}, "none below 0"),
        ({"place": {"north": 1.0}}, "south"),
        ({"place": {"north": 0.5, "south": 0.4, "east": 0.1}}, "no rater has 'place' 'east'"),
        ({}, "no attribute"),
    ]
    for population, match in cases:
        with pytest.raises(DiscretionError, match=match):
            communities(audited, population=population)
    with pytest.raises(DataError, match="one community"):
        communities(audited, ["place"], least=100)
    (tmp_path / "p.json").write_text('{"a": {"x": "much"}}')
    (tmp_path / "q.json").write_text("[1")
    (tmp_path / "r.csv").write_text("attribute,value\na,x\n")
    for name in ("p.json", "q.json", "r.csv"):
        with pytest.raises(ReadError, match=r"[pqr]\.(json|csv)"):
            read_population(tmp_path / name)
    (tmp_path / "s.csv").write_text("attribute,value,share\nage,young,0.25\nage,old,0.75\n")
    assert read_population(tmp_path / "s.csv") == {"age": {"young": 0.25, "old": 0.75}}


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = save(made(world()), tmp_path / "a")
    (tmp_path / "population.json").write_text('{"community": {"city": 0.5, "village": 0.5}}')
    options = ("--by", "community", "--population", str(tmp_path / "population.json"), "--replicates", "100")
    done = command("communities", folder, *options)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    for told in ("How far raters agree", "As the stated population would judge", "Who is in which group"):
        assert told in text
    document = json.loads(command("communities", folder, *options, "--json").stdout)
    assert document["groups"]["k"] == 2
    assert len(document["members"]) == 60
    assert b"country" in command("communities", folder, "--by", "country").stderr
