"""The laboratory: figures say what was planted, runs resume, weights are chosen blindly, and words follow intervals."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from discretion.errors import DataError, ReadError  # noqa: E402
from discretion.simulate import Voter  # noqa: E402
from discretion.training.fitting import Fit  # noqa: E402
from discretion.training.lab_audit import Hierarchy, choice_figures, choices, written_figures  # noqa: E402
from discretion.training.lab_report import page, said, write  # noqa: E402
from discretion.training.lab_results import CHOSEN, Laboratory, over_seeds  # noqa: E402
from discretion.training.laboratory import PLAIN, Settings, run_laboratory, stations  # noqa: E402
from discretion.training.world import PRINCIPLES, LanguageWorld, chances  # noqa: E402

P = len(PRINCIPLES)
PEOPLE = Voter("people", np.linspace(1.5, -1.5, P).tolist(), arbitrary=0.1)
TINY = Settings(
    comparisons=64, validation=60, test=120, texts=40, prior_steps=5, weights={"choice": (1.0,)},
    fit=Fit(epochs=1, batch=32, learning_rate=1e-3, max_length=64, save_every=1000, device="cpu"),
)  # fmt: skip
FEW = ("people", "base", "reward model", PLAIN, "DPO + choice 1")


def planted(n: int = 3000) -> tuple[np.ndarray, np.ndarray, Hierarchy]:
    """Votes, labels and the truth."""
    rng = np.random.default_rng(0)
    X = LanguageWorld().pairs(n, rng).votes
    labels = np.where(rng.random(n) < chances(PEOPLE, X), 1, -1).astype(np.int8)
    return X, labels, Hierarchy.planted(PEOPLE, X)


def test_choices_are_held_against_the_truth():
    X, labels, truth = planted()
    own = choice_figures(X, labels, labels, truth)
    assert own["accuracy"] == 1.0
    assert own["arbitrariness"] == pytest.approx(0.1, abs=0.03)
    assert own["discrepancy"] < 0.1
    assert own["divergence"] < 0.01
    backwards = choices(chances(Voter("others", PEOPLE.priorities[::-1]), X) - 0.5)
    other = choice_figures(X, backwards, labels, truth)
    assert other["discrepancy"] > 0.9
    assert other["divergence"] > 20 * own["divergence"]
    assert other["pairs"] == P * (P - 1) / 2
    coins = choices(np.random.default_rng(1).normal(size=len(X)))
    assert choice_figures(X, coins, labels, truth)["arbitrariness"] == pytest.approx(0.5, abs=0.06)


def test_the_truth_is_that_of_many_labels():
    X, _, truth = planted(300)
    rng = np.random.default_rng(2)
    many = np.tile(X, (400, 1))
    labels = np.where(rng.random(len(many)) < chances(PEOPLE, many), 1, -1).astype(np.int8)
    drawn = Hierarchy.of_choices(many, labels)
    off = ~np.eye(P, dtype=bool)
    assert drawn.supremacy[off] == pytest.approx(truth.supremacy[off], abs=0.02)
    assert drawn.priority.logits == pytest.approx(truth.priority.logits, abs=0.05)


def test_what_is_written_is_a_choice_over_what_was_written_before():
    rng = np.random.default_rng(3)
    truth = planted()[2]
    prompts = LanguageWorld().prompts(1000, rng)
    before, same = (LanguageWorld().responses(prompts, rng) for _ in range(2))
    served = LanguageWorld(rates=tuple(np.linspace(0.95, 0.5, P))).responses(prompts, rng)
    good = written_figures(prompts, served, before, PEOPLE, truth)
    none = written_figures(prompts, same, before, PEOPLE, truth)
    assert good["won"] > 0.6
    assert none["won"] == pytest.approx(0.5, abs=0.035)
    assert good["discrepancy"] < 0.2
    assert np.corrcoef(good["rates"], PEOPLE.priorities)[0, 1] > 0.95
    nothing = written_figures(prompts, before, before, PEOPLE, truth)
    assert math.isnan(nothing["discrepancy"])


@pytest.mark.slow
def test_a_run_resumes_to_the_same_figures_and_does_nothing_twice(tmp_path: Path):
    told: list[tuple[str, bool]] = []

    def report(seed: int, station: str, there: bool) -> None:
        told.append((station, there))

    first = run_laboratory(tmp_path, 1, settings=TINY, only=FEW, report=report)
    assert told == [(name, False) for name in FEW]
    files = {path: path.read_bytes() for path in (tmp_path / "seed-0").glob("*.json")}
    assert len(files) == len(FEW)

    gone = tmp_path / "seed-0" / "dpo.json"
    gone.unlink()
    told.clear()
    again = run_laboratory(tmp_path, 1, settings=TINY, only=FEW, report=report)
    assert [name for name, there in told if not there] == [PLAIN]
    assert gone.read_bytes() == files[gone]
    assert again.frame.equals(first.frame)
    assert again.rates.equals(first.rates)
    assert first.values("people", "accuracy") == {0: 1.0}
    assert first.rates["station"].unique(maintain_order=True).to_list() == ["base", PLAIN, "DPO + choice 1"]

    gone.write_text("{", "utf-8")
    with pytest.raises(ReadError, match="does not parse"):
        run_laboratory(tmp_path, 1, settings=TINY, only=FEW)


def test_a_folder_of_other_settings_and_unknown_stations_are_refused(tmp_path: Path):
    run_laboratory(tmp_path, 0, settings=TINY)
    with pytest.raises(DataError, match="other settings"):
        run_laboratory(tmp_path, 0, settings=Settings())
    with pytest.raises(DataError, match="no station 'RLHF'"):
        run_laboratory(tmp_path, 0, settings=TINY, only=["RLHF"])


def test_every_station_has_a_name_and_a_file_of_its_own():
    names = [station.name for station in stations(Settings())]
    assert len({"".join(ch if ch.isalnum() else "-" for ch in name).lower() for name in names}) == len(names)
    assert PLAIN in names


def results(effect: float, *, cost: float = 0.0, seeds: int = 5, noise: float = 0.02) -> Laboratory:
    """Figures of a plain policy at a discrepancy of 0.3, of three weights of a loss, and of a baseline without effect.

    The weight 1 has `effect` and `cost`, the weight 0.1 a third of the effect at the same cost; the weight 9 has all
    effect there can be, at a cost of 0.2 in accuracy.
    """
    rng = np.random.default_rng(seeds)
    found = {}
    for seed in range(seeds):
        common = rng.normal(0, 0.05)
        for name, kind, weight, down, loss in (
            ("people", "", 0.0, 0.3, 0.0), ("reward model", "", 0.0, 0.1, 0.0), (PLAIN, "", 0.0, 0.0, 0.0),
            ("DPO + choice 0.1", "choice", 0.1, effect / 3, cost), ("DPO + choice 1", "choice", 1.0, effect, cost),
            ("DPO + choice 9", "choice", 9.0, 0.3, 0.2),
            ("more data", "", 0.0, 0.0, 0.0),
        ):  # fmt: skip
            model = {"people": "people", "reward model": "reward"}.get(name, "policy")
            figures = {
                "accuracy": 0.7 + common - loss + rng.normal(0, noise / 10), "arbitrariness": 0.1,
                "divergence": 0.1 - down / 10,
                "discrepancy": float(np.clip(0.3 + common - down + rng.normal(0, noise), 0, 1)), "pairs": 28.0,
            }  # fmt: skip
            about = {"station": name, "model": model, "kind": kind, "weight": weight, "hierarchy": "people"}
            found[seed, name] = {"station": about, "validation": figures, "choices": figures, "priorities": [1.0, -1.0]}
            if model == "policy":
                written = {"won": 0.6, "arbitrariness": None, "discrepancy": 0.2, "pairs": 28.0, "rates": [0.7, 0.5]}
                found[seed, name]["written"] = written
    return Laboratory.of(found, json.loads(json.dumps(asdict(Settings()))))


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(4)
    covered, naive = 0, 0
    for _ in range(1000):
        values = rng.normal(0.3, 0.1, 5)
        mean, low, high, n = over_seeds([*values, math.nan])
        assert n == 5
        covered += low <= 0.3 <= high
        naive += abs(mean - 0.3) <= 1.96 * values.std() / math.sqrt(5)
    assert covered / 1000 == pytest.approx(0.95, abs=0.02)
    assert naive / 1000 < 0.9  # negative control: a normal interval around five values
    assert math.isnan(over_seeds([0.4])[1])
    assert over_seeds([])[3] == 0


def test_differences_are_taken_within_seeds():
    lab = results(0.15)
    row = lab.summary(PLAIN).filter(
        (pl.col("station") == "DPO + choice 1") & (pl.col("figure") == "discrepancy") & (pl.col("reading") == "choices")
    )
    assert row["difference"][0] == pytest.approx(-0.15, abs=0.04)
    assert row["difference_high"][0] < 0
    # What seeds have in common is large: two means by themselves would not tell the stations apart.
    assert row["difference_high"][0] - row["difference_low"][0] < 0.8 * (row["high"][0] - row["low"][0])
    with pytest.raises(DataError, match="no station"):
        lab.summary("nothing")


def test_a_weight_that_costs_accuracy_is_not_chosen():
    chosen = results(0.15).chosen(PLAIN)
    frame = chosen.frame.filter(pl.col("station") == CHOSEN)
    assert frame["weight"].unique().to_list() == [1.0]
    assert chosen.rates.filter(pl.col("station") == CHOSEN).height == 10
    assert CHOSEN not in results(0.15, cost=0.1).chosen(PLAIN).stations


@pytest.mark.parametrize(
    ("lab", "expected"),
    [
        (results(0.22), "at least halves"),
        (results(0.15, noise=0.05), "halves, or nearly,"),
        (results(0.1), "does not halve"),
        (results(0.11, noise=0.06), "lowers the policy's discrepancy"),
        (results(0.0, noise=0.1), "is not shown"),
        (results(0.2, cost=0.1), "each cost accuracy"),
        (results(0.2, seeds=1), "is not shown"),
    ],
)
def test_words_follow_intervals(lab: Laboratory, expected: str):
    headline, sentences, _ = said(lab.chosen(PLAIN).summary(PLAIN))
    assert expected in headline
    assert "a policy (DPO) at" in sentences[0]


@pytest.mark.slow
def test_the_page_is_whole_and_the_same_for_the_same_results(tmp_path: Path):
    lab = results(0.2)
    path = write(lab, tmp_path / "lab.html")
    text = path.read_text("utf-8")
    assert text == page(lab)
    assert "A discretion loss at least halves" in text
    assert "DPO + choice 9" in text
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert "NaN" not in text.split('id="payload">')[1].split("</script>")[0]
