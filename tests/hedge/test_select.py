"""Selecting for real: by the law, the same for the same seed, with ties and early exits as promised."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest
import scipy.stats

from discretion.errors import DataError
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN, Tilt, TruncatedPoisson
from discretion.hedge.pool import Pool, best_of_n
from discretion.hedge.select import choose, number, select
from discretion.hedge.soft_pool import soft_best_of_n


class Dice:
    """A policy whose answers are numbers; it counts what it was asked."""

    def __init__(self, faces: int = 1000) -> None:
        self.faces = faces
        self.asked: list[tuple[str, int]] = []

    async def generate(self, prompt: str, seed: int) -> str:
        self.asked.append((prompt, seed))
        await asyncio.sleep(0)
        return str(np.random.default_rng(seed).integers(self.faces))


def worth(prompt: str, candidates) -> list[float]:
    return [float(c) for c in candidates]


def test_the_best_is_chosen_and_ties_by_the_seed() -> None:
    assert choose([1.0, 5.0, 2.0], BestOfN(3), np.random.default_rng(0)) == 1
    assert choose([np.nan, 5.0, np.nan], BestOfN(3), np.random.default_rng(0)) == 1
    picks = Counter(choose([3.0, 5.0, 5.0], BestOfN(3), np.random.default_rng(k)) for k in range(400))
    assert set(picks) == {1, 2}
    assert 150 < picks[1] < 250
    assert len({choose([3.0, 5.0, 5.0], BestOfN(3), np.random.default_rng(7)) for _ in range(5)}) == 1


def test_soft_choices_follow_the_softmax_of_the_pool() -> None:
    rng = np.random.default_rng(0)
    proxy, true = rng.normal(size=6), rng.normal(size=6)
    law = SoftBestOfN(6, 4.0)
    drawn = np.array([true[choose(proxy, law, rng)] for _ in range(6000)])
    exact = soft_best_of_n(Pool.of([proxy], [true]), 4.0, 6)[0, 5]
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(6000)
    hard = [choose(proxy, SoftBestOfN(6, np.inf), rng) for _ in range(20)]
    assert set(hard) == {int(np.argmax(proxy))}


@pytest.mark.parametrize(
    ("law", "pmf"),
    [
        (BestOfPoisson(3.0), lambda n: scipy.stats.poisson.pmf(n - 1, 3.0)),
        (TruncatedPoisson(2.0), lambda n: scipy.stats.poisson.pmf(n, 2.0) / -np.expm1(-2.0)),
    ],
)
def test_numbers_follow_their_law(law, pmf) -> None:
    rng = np.random.default_rng(1)
    counts = Counter(number(law, rng) for _ in range(8000))
    assert min(counts) == 1
    for n in range(1, 7):
        expected = 8000 * pmf(n)
        assert abs(counts[n] - expected) < 5 * np.sqrt(expected)


def test_selection_of_many_prompts_is_the_law_and_repeatable() -> None:
    prompts = [f"p{k}" for k in range(300)]
    found = asyncio.run(select(prompts, Dice(), worth, BestOfN(4), seed=3))
    again = asyncio.run(select(prompts, Dice(), worth, BestOfN(4), seed=3, at_once=1))
    assert [s.response for s in found] == [s.response for s in again]
    assert [s.prompt for s in found] == prompts
    assert all(len(s.candidates) == s.planned == 4 for s in found)
    assert all(s.response == s.candidates[s.index] for s in found)
    mean = np.mean([float(s.response) for s in found]) / 1000
    assert mean == pytest.approx(BestOfN(4).mean(), abs=0.04)
    other = asyncio.run(select(prompts, Dice(), worth, BestOfN(4), seed=4))
    assert [s.response for s in other] != [s.response for s in found]
    pool = Pool.of([s.scores for s in found], [s.scores for s in found])
    assert best_of_n(pool, [4]).mean() == pytest.approx(np.mean([max(s.scores) for s in found]))


def test_drawing_stops_where_nothing_can_be_better() -> None:
    dice = Dice(faces=2)
    found = asyncio.run(select(["a", "b", "c", "d"], dice, worth, BestOfN(40), ceiling=1.0))
    assert all(s.response == "1" for s in found)
    assert len(dice.asked) < 40
    assert all(len(s.candidates) < s.planned == 40 for s in found)
    dice = Dice(faces=2)
    asyncio.run(select(["a"], dice, worth, SoftBestOfN(40, 2.0), ceiling=1.0))
    assert len(dice.asked) == 40


def test_a_reward_may_be_a_coroutine_and_must_fit() -> None:
    async def slow(prompt: str, candidates) -> list[float]:
        await asyncio.sleep(0)
        return worth(prompt, candidates)

    told: list[float] = []
    found = asyncio.run(select(["a", "b"], Dice(), slow, BestOfPoisson(2.0), report=lambda _, done: told.append(done)))
    assert len(found) == 2
    assert told[-1] == 1.0
    with pytest.raises(DataError, match="scores for"):
        asyncio.run(select(["a"], Dice(), lambda prompt, candidates: [1.0], BestOfN(3)))


def test_what_cannot_be_selected_by_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="TruncatedPoisson"):
        number(Tilt(2.0), rng)
    with pytest.raises(DataError, match="whole number"):
        number(BestOfN(2.5), rng)
    with pytest.raises(DataError, match="one law"):
        number(BestOfPoisson([1.0, 2.0]), rng)
    with pytest.raises(DataError, match="none of 2"):
        choose([np.nan, np.nan], BestOfN(2), rng)
    with pytest.raises(DataError, match="infinite"):
        choose([np.inf, 1.0], BestOfN(2), rng)
    assert number(TruncatedPoisson(0.0), rng) == 1
