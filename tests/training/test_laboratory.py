"""The laboratory: figures say what was planted, runs resume, weights are chosen blindly, and words follow intervals."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from discretion.errors import DataError, ReadError  # noqa: E402
from discretion.hedge.laws import BestOfN  # noqa: E402
from discretion.simulate import Voter  # noqa: E402
from discretion.training.fitting import Fit  # noqa: E402
from discretion.training.lab_audit import Hierarchy, choice_figures, choices, written_figures  # noqa: E402
from discretion.training.lab_design import PLAIN, Settings, matching, stations  # noqa: E402
from discretion.training.lab_report import page, said, write  # noqa: E402
from discretion.training.lab_results import CHOSEN, Laboratory, over_seeds  # noqa: E402
from discretion.training.laboratory import run_laboratory  # noqa: E402
from discretion.training.rerank import decide, fit_weights, reward, selected  # noqa: E402
from discretion.training.world import PRINCIPLES, LanguageWorld, chances, properties_of  # noqa: E402

P = len(PRINCIPLES)
PEOPLE = Voter("people", np.linspace(1.5, -1.5, P).tolist(), arbitrary=0.1)
TINY = Settings(
    comparisons=64, validation=60, test=120, texts=40, prior_steps=5, weights={"choice": (1.0,)}, candidates=(2, 4),
    fit=Fit(epochs=1, batch=32, learning_rate=1e-3, max_length=64, save_every=1000, device="cpu"),
)  # fmt: skip
FEW = ("people", "base", "reward model", PLAIN, "DPO + choice 1")
UNTRAINED = ("rerank*", "reward model, best of *")


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


def test_weighted_votes_settle_conflicts_as_planted_and_those_of_others_do_not():
    X, labels, truth = planted()
    told = Hierarchy.of_choices(X[:1500], labels[:1500])  # as training may know it: from labels, on other comparisons
    new, theirs = X[1500:], labels[1500:]
    weights = fit_weights(X[:1500], told.supremacy, sharpness=np.inf)
    greater = choice_figures(new, decide(new, weights), theirs, truth)
    luce = fit_weights(X[:1500], told.supremacy)
    drawn = choice_figures(new, decide(new, luce, np.random.default_rng(5)), theirs, truth)
    for found in (greater, drawn):
        assert found["arbitrariness"] == 0
        assert found["discrepancy"] < 0.15
    # Negative control: weights of another annotator, who ranks principles the other way round.
    others = Voter("others", PEOPLE.priorities[::-1], arbitrary=0.1)
    rng = np.random.default_rng(6)
    choice = np.where(rng.random(1500) < chances(others, X[:1500]), 1, -1).astype(np.int8)
    foreign = fit_weights(X[:1500], Hierarchy.of_choices(X[:1500], choice).supremacy, sharpness=np.inf)
    wrong = choice_figures(new, decide(new, foreign), theirs, truth)
    assert wrong["arbitrariness"] == 0  # a consensus needs no weights
    assert wrong["discrepancy"] > 0.7
    assert wrong["accuracy"] < greater["accuracy"] - 0.1


def test_the_best_of_many_serves_what_weighs_most_and_costs_its_candidates():
    rng = np.random.default_rng(7)
    X, labels, truth = planted()
    weights = fit_weights(X, Hierarchy.of_choices(X, labels).supremacy, sharpness=np.inf)
    prompts = LanguageWorld().prompts(500, rng)
    before = LanguageWorld().responses(prompts, rng)
    texts = LanguageWorld().responses(prompts * 16, rng)
    has = properties_of(prompts * 16, texts).reshape(16, 500, P).swapaxes(0, 1)
    found = {}
    for n in (1, 4, 16):
        chosen = selected(reward(has, weights), BestOfN(n), rng)
        taken = [texts[j * 500 + k] for k, j in enumerate(chosen)]
        found[n] = written_figures(prompts, taken, before, PEOPLE, truth)
    assert found[1]["won"] == pytest.approx(0.5, abs=0.05)  # negative control: no selection
    assert found[4]["won"] > found[1]["won"] + 0.1
    assert found[16]["won"] > found[4]["won"] + 0.05
    assert found[16]["arbitrariness"] < 0.1
    assert found[16]["discrepancy"] < 0.2
    assert np.corrcoef(found[16]["rates"], PEOPLE.priorities)[0, 1] > 0.9


def test_an_open_comparison_counts_half_for_accuracy():
    X, labels, truth = planted(600)
    y = labels.copy()
    y[:300] = 0
    assert choice_figures(X, y, labels, truth)["accuracy"] == pytest.approx(0.75)


@pytest.mark.slow
def test_what_trains_nothing_is_measured_with_and_without_errors_of_votes(tmp_path: Path):
    wide = replace(TINY, comparisons=600, test=400, erring=0.3)
    lab = run_laboratory(tmp_path, 1, settings=wide, only=UNTRAINED)
    assert lab.stations == [
        "rerank", "rerank, drawn", "rerank, votes that err", "rerank, best of 2", "rerank, best of 4",
        "rerank, soft best of 4", "rerank, drawn of 4", "rerank, votes that err, best of 4", "reward model, best of 2",
        "reward model, best of 4",
    ]  # fmt: skip
    for name in ("rerank", "rerank, drawn"):
        assert lab.values(name, "arbitrariness") == {0: 0.0}
    assert lab.values("rerank, votes that err", "arbitrariness")[0] > 0.1  # who is told wrong goes wrong
    assert lab.values("rerank", "accuracy")[0] > lab.values("rerank, votes that err", "accuracy")[0]
    for name, n in (("rerank, best of 2", 2), ("reward model, best of 4", 4)):
        assert lab.values(name, "candidates", "written") == {0: n}
        assert lab.values(name, "discrepancy") == {}  # it has no choices of its own
    won = {n: lab.values(f"rerank, best of {n}", "won", "written")[0] for n in (2, 4)}
    assert 0.5 < won[2] < won[4]
    gone = tmp_path / "seed-0" / "rerank--drawn-of-4.json"
    before = gone.read_bytes()
    gone.unlink()
    run_laboratory(tmp_path, 1, settings=wide, only=["rerank, drawn of 4"])
    assert gone.read_bytes() == before


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


def test_a_folder_that_was_begun_with_fewer_settings_goes_on(tmp_path: Path):
    run_laboratory(tmp_path, 0, settings=TINY)
    path = tmp_path / "settings.json"
    whole = json.loads(path.read_text("utf-8"))
    fewer = {key: value for key, value in whole.items() if key not in ("candidates", "softness", "erring")}
    path.write_text(json.dumps(fewer), "utf-8")
    run_laboratory(tmp_path, 0, settings=TINY)
    assert json.loads(path.read_text("utf-8")) == whole
    with pytest.raises(DataError, match="other settings"):
        run_laboratory(tmp_path, 0, settings=replace(TINY, erring=0.2))


def test_stations_are_found_by_name_and_pattern_whatever_the_case():
    names = [station.name for station in matching(["dpo", "RERANK", "* best of 4", "base"], Settings())]
    assert names == ["base", "DPO", "rerank", "rerank, best of 4", "reward model, best of 4"]
    with pytest.raises(DataError, match=r"no station 'SFT'. Expected people; base"):
        matching(["DPO", "SFT"], Settings())
    assert not any(s.candidates for s in stations(replace(Settings(), candidates=())))


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


def with_reranking(down: float) -> Laboratory:
    """Figures of plain DPO, of reranking at a discrepancy lower by `down`, of the best of 16; no discretion loss."""
    rng = np.random.default_rng(8)
    found = {}
    for seed in range(5):
        for name, model, lower, n in (
            (PLAIN, "policy", 0.0, 1), ("rerank", "rerank", down, 0), ("rerank, votes that err", "rerank", 0.0, 0),
            ("rerank, best of 16", "rerank", down, 16), ("reward model, best of 16", "reward", 0.0, 16),
        ):  # fmt: skip
            far = 0.3 - lower + rng.normal(0, 0.02)
            about = {"station": name, "model": model, "kind": "", "weight": 0.0, "hierarchy": "people"}
            found[seed, name] = {"station": about, "priorities": [1.0, -1.0]}
            if n < 2:
                figures = {"accuracy": 0.7, "arbitrariness": 0.05, "divergence": 0.1, "discrepancy": far, "pairs": 28.0}
                if model == "rerank":
                    figures["arbitrariness"] = 0.0
                found[seed, name]["choices"] = found[seed, name]["validation"] = figures
            if n:
                written = {"won": 0.6 + n / 100, "arbitrariness": 0.1, "discrepancy": far, "pairs": 28.0}
                found[seed, name]["written"] = {**written, "rates": [0.7, 0.5], "candidates": float(n)}
    return Laboratory.of(found, json.loads(json.dumps(asdict(Settings()))))


def test_words_say_what_reranking_does_and_costs():
    headline, sentences, number = said(with_reranking(0.2).chosen(PLAIN).summary(PLAIN))
    assert "without training, settle conflicts nearer to people" in headline
    assert number.startswith("−")
    told = " ".join(sentences)
    assert "never go against a consensus" in told
    assert "With votes that err: 3" in told
    assert "Each prompt costs 16 candidates" in told
    assert "chosen by the reward model" in told
    headline, _, number = said(with_reranking(0.0).chosen(PLAIN).summary(PLAIN))
    assert "is not shown" in headline
    assert number == "open"


@pytest.mark.slow
def test_the_page_shows_what_selecting_costs():
    text = page(with_reranking(0.2))
    assert "candidates a prompt" in text
    assert "rerank, best of 16" in text
    assert "Votes that err" in text


def test_wrong_stations_are_wrong_use_and_come_with_those_there_are(tmp_path: Path):
    from typer.testing import CliRunner

    from discretion.cli import app

    found = CliRunner().invoke(app, ["lab", "--out", str(tmp_path / "lab"), "--only", "rerank*", "--only", "SFT"])
    assert found.exit_code == 2
    assert "SFT" in found.output
    assert "conflicts reweighted" in found.output
    assert not (tmp_path / "lab").exists()


@pytest.mark.slow
def test_the_verb_runs_some_stations_only_with_dpo_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from typer.testing import CliRunner

    from discretion.cli import app

    told: dict[str, object] = {}

    def run(folder: Path, seeds: int, **given: object) -> Laboratory:
        told.update(given, seeds=seeds)
        return with_reranking(0.2)

    monkeypatch.setattr("discretion.training.laboratory.run_laboratory", run)
    before = torch.get_num_threads()
    try:
        found = CliRunner().invoke(
            app, ["lab", "--out", str(tmp_path), "--seeds", "2", "--only", "rerank", "--comparisons", "300",
                  "--threads", "1", "--json"],
        )  # fmt: skip
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert found.exit_code == 0, found.output
    assert told["only"] == [PLAIN, "rerank"]
    assert told["settings"] == Settings(comparisons=300)
    assert {row["station"] for row in json.loads(found.stdout)["stations"]} >= {PLAIN, "rerank"}
    assert (tmp_path / "report.html").is_file()


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
