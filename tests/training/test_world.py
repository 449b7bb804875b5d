"""The small language: what principles prefer can be read off the texts, and what was planted is found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from discretion import audit  # noqa: E402
from discretion.errors import DataError  # noqa: E402
from discretion.judges.rendering import Rendering  # noqa: E402
from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, states  # noqa: E402
from discretion.metrics.discrepancy import discrepancy  # noqa: E402
from discretion.metrics.priority import fit  # noqa: E402
from discretion.metrics.supremacy import wins  # noqa: E402
from discretion.simulate import Voter  # noqa: E402
from discretion.training.world import (  # noqa: E402
    NAMES,
    PRINCIPLES,
    TOPICS,
    WORDS,
    LanguageWorld,
    chances,
    properties,
    properties_of,
    votes,
    written,
)
from discretion.training.world_model import sampled, tokenizer, train_prior  # noqa: E402

P = len(PRINCIPLES)
PEOPLE = Voter("people", np.linspace(1.5, -1.5, P).tolist(), arbitrary=0.1)


def chosen(X: np.ndarray, voter: Voter, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(len(X)) < chances(voter, X), 1, -1).astype(np.int8)


def test_every_combination_of_properties_can_be_written_and_read():
    rng = np.random.default_rng(0)
    for combination in range(2**P):
        wanted = np.array([combination >> k & 1 for k in range(P)], bool)
        for _ in range(3):
            text = written("tell me about bread", wanted, rng)
            assert properties("tell me about bread", text).tolist() == wanted.astype(int).tolist(), text
            assert set(text.split()) <= set(WORDS)


def test_votes_are_what_the_texts_say_and_turn_with_the_responses():
    pairs = LanguageWorld().pairs(2000, np.random.default_rng(1))
    assert (votes(pairs.prompts, pairs.first, pairs.second) == pairs.votes).all()
    assert (votes(pairs.prompts, pairs.second, pairs.first) == -pairs.votes).all()
    other = tuple("tell me about " + next(t for t in TOPICS if t not in p) for p in pairs.prompts)
    changed = (votes(other, pairs.first, pairs.second) != pairs.votes).any(axis=0)
    assert changed.tolist() == [name == "topic" for name in NAMES]  # only the topic is the prompt's matter


def test_any_text_has_properties():
    assert properties("", "").tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert properties("about bread", "poison 你 first then please")[[0, 1, 4, 5]].tolist() == [0, 0, 1, 1]
    assert properties_of([], []).shape == (0, P)


@pytest.mark.parametrize("shares", [(0.35, 0.55, 0.1), (0.8, 0.2, 0.0), (0.0, 0.0, 1.0)])
def test_states_have_the_shares_that_were_asked_for(shares: tuple[float, float, float]):
    found = states(LanguageWorld(shares=shares).pairs(3000, np.random.default_rng(2)).votes)[0]
    for share, state in zip(shares, (CONSENSUS, CONFLICT, INDIFFERENCE), strict=True):
        assert (found == state).mean() == pytest.approx(share, abs=3 * np.sqrt(0.25 / 3000))


def test_responses_have_properties_at_their_rates():
    rates = (0.9, 0.1, 0.5, 0.3, 0.7, 0.5, 0.2, 0.0)
    rng = np.random.default_rng(3)
    world = LanguageWorld(rates=rates)
    prompts = world.prompts(3000, rng)
    assert properties_of(prompts, world.responses(prompts, rng)).mean(axis=0) == pytest.approx(rates, abs=0.03)


@pytest.mark.parametrize("wrong", [{"shares": (0.5, 0.6, 0.1)}, {"active": 0.0}, {"rates": (0.5, 0.5)}])
def test_impossible_worlds_are_refused(wrong: dict):
    with pytest.raises(DataError):
        LanguageWorld(**wrong)


def test_chances_are_luces_in_conflict_and_arbitrary_in_consensus():
    X = np.zeros((4, P), np.int8)
    X[0, [0, 3]] = 1, -1
    X[1, [0, 1]] = 1
    X[2, 5] = -1
    found = chances(PEOPLE, X)
    gap = PEOPLE.priorities[0] - PEOPLE.priorities[3]
    assert found == pytest.approx([1 / (1 + np.exp(-gap)), 0.9, 0.1, 0.5])
    assert chances(PEOPLE, -X) == pytest.approx(1 - found)
    with pytest.raises(DataError, match="3 priorities"):
        chances(Voter("few", [1.0, 2.0, 3.0]), X)


def test_planted_priorities_are_found_in_labels_and_reversed_ones_are_not():
    rng = np.random.default_rng(4)
    X = LanguageWorld().pairs(6000, rng).votes
    W = wins(X, chosen(X, PEOPLE, rng))
    backwards = Voter("others", PEOPLE.priorities[::-1], arbitrary=0.1)
    planted = np.sign(np.subtract.outer(PEOPLE.priorities, PEOPLE.priorities))
    assert (fit(W).order == planted).mean() > 0.93
    distance, pairs = discrepancy(fit(W), fit(wins(X, chosen(X, backwards, rng))))
    assert pairs == P * (P - 1) / 2
    assert distance > 0.9


def test_pairs_are_a_table_that_an_audit_takes():
    rng = np.random.default_rng(5)
    pairs = LanguageWorld().pairs(400, rng)
    table = pairs.table(people=chosen(pairs.votes, PEOPLE, rng))
    found = audit(table, replicates=50).arbitrariness.row(0, named=True)
    assert found["estimate"] == pytest.approx(0.1, abs=0.06)


def test_the_tokenizer_knows_every_word_and_where_a_turn_ends():
    words = tokenizer()
    rendering = Rendering(words)
    assert rendering.chat
    prompt, response = rendering.prompt_and_response("tell me about bread", "bread is good please")
    ids = words(prompt + response)["input_ids"]
    assert words.unk_token_id not in ids
    assert ids[-1] == words.eos_token_id
    assert words.decode(ids, skip_special_tokens=True) == "tell me about bread bread is good please"
    whole = rendering.conversation("tell me about bread", "bread is good please")
    assert whole.rstrip() == (prompt + response).rstrip()


@pytest.mark.slow
def test_the_prior_writes_as_the_world_does(tmp_path: Path):
    world = LanguageWorld(rates=(0.9, 0.5, 0.2, 0.5, 0.8, 0.5, 0.5, 0.5))
    prompts = world.prompts(300, np.random.default_rng(6))
    gaps = {}
    for steps in (1, 250):
        folder = tmp_path / str(steps)
        train_prior(world, folder, np.random.default_rng(7), steps=steps, batch=32)
        texts = sampled(folder, prompts, np.random.default_rng(8))
        assert texts == sampled(folder, prompts, np.random.default_rng(8))
        assert texts != sampled(folder, prompts, np.random.default_rng(9))
        gaps[steps] = np.abs(properties_of(prompts, texts).mean(axis=0) - world.rates).mean()
    assert gaps[250] < 0.15
    assert gaps[1] > 2 * gaps[250]  # negative control: a model that learned nothing
