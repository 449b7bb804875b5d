"""Selecting for real: candidates, their proxy scores, and a law give one answer, the same one for the same seed.

A law decides how many candidates are drawn before any is seen, so nothing is generated in vain; where a score cannot be
beaten, drawing stops.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from discretion.errors import DataError
from discretion.hedge.law import Law
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN, Tilt, TruncatedPoisson

Progress = Callable[[str, float], None]


class Policy(Protocol):
    """Something that answers prompts."""

    async def generate(self, prompt: str, seed: int) -> str:
        """Return a candidate; a different one for a different seed."""


Score = Callable[[str, Sequence[str]], "Sequence[float] | Awaitable[Sequence[float]]"]
"""Gives the proxy of candidates of one prompt; NaN for one that has none, which is then never chosen."""


@dataclass(frozen=True)
class Selected:
    """What was selected for a prompt.

    Parameters
    ----------
    prompt, response : str
    index : int
        Of the candidates.
    scores : tuple of float
    candidates : tuple of str
    planned : int
        How many the law wanted; fewer were drawn where the first of them could not be beaten.
    """

    prompt: str
    response: str
    index: int
    scores: tuple[float, ...]
    candidates: tuple[str, ...] = field(repr=False)
    planned: int = 0


def number(law: Law, rng: np.random.Generator) -> int:
    """Draw how many candidates a selection takes.

    Raises
    ------
    DataError
        The law is not drawn from candidates, or is a family of laws.
    """
    if isinstance(law, BestOfPoisson):
        return 1 + int(rng.poisson(_one(law.mu)))
    if isinstance(law, TruncatedPoisson):
        lam = _one(law.lam)
        while lam > 0:  # of few tries where lam is not tiny; a tiny one is nearly always 1
            if lam < 1e-3:
                return 1 if rng.random() > lam / 2 else 2
            if (n := int(rng.poisson(lam))) > 0:
                return n
        return 1
    if isinstance(law, Tilt):
        raise DataError(
            "the exponential tilt is not drawn from candidates.", remedy="Take TruncatedPoisson, its equal."
        )
    if isinstance(law, (BestOfN, SoftBestOfN)):
        given = _one(law.n)
        if given != int(given):
            raise DataError(f"n = {given}.", expected="a whole number of candidates")
        return int(given)
    raise DataError(f"{type(law).__name__} is no law that candidates are selected by.")


def choose(scores: ArrayLike, law: Law, rng: np.random.Generator) -> int:
    """Choose one of the candidates that a law drew, by their scores.

    Ties are broken by `rng`: the same seed, the same choice. Soft best-of-n weighs by lam times the score's quantile
    among the candidates.

    Parameters
    ----------
    scores : (n,)
        NaN: never chosen.

    Raises
    ------
    DataError
        No candidate has a score.
    """
    values = np.asarray(scores, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    if values.ndim != 1 or not len(known):
        raise DataError(f"none of {values.size} candidates has a score.", expected="at least one")
    if np.isinf(values[known]).any():
        raise DataError("a score is infinite.", expected="finite scores, NaN where there is none")
    if isinstance(law, SoftBestOfN) and np.isfinite(_one(law.lam)):
        below = (values[known][:, None] > values[known]).sum(axis=1)
        same = (values[known][:, None] == values[known]).sum(axis=1)
        u = (below + same / 2) / len(known)
        return int(known[np.argmax(_one(law.lam) * u + rng.gumbel(size=len(known)))])
    best = known[values[known] == values[known].max()]
    return int(rng.choice(best))


async def select(
    prompts: Sequence[str],
    policy: Policy,
    reward: Score,
    law: Law,
    *,
    seed: int = 0,
    at_once: int = 16,
    ceiling: float | None = None,
    report: Progress | None = None,
) -> list[Selected]:
    """Answer prompts by a law: draw candidates, score them, choose.

    Parameters
    ----------
    prompts : sequence of str
    policy : Policy
    reward : callable
        The proxy; may be a coroutine.
    law : Law
        Tuned, say: `BestOfN(2)`.
    seed : int
        Each prompt has a stream of its own, so that neither order nor concurrency changes what is chosen.
    at_once : int
        Prompts at a time.
    ceiling : float, optional
        The highest score there can be: a candidate that has it cannot be beaten, and no further one is drawn. Soft
        best-of-n draws all the same.
    report : callable, optional

    Returns
    -------
    list of Selected
        In the order of the prompts.
    """
    turns = asyncio.Semaphore(at_once)
    stops = ceiling is not None and not isinstance(law, SoftBestOfN)
    done = 0

    async def one(k: int, prompt: str) -> Selected:
        nonlocal done
        rng = np.random.default_rng([seed, k])
        planned = number(law, rng)
        seeds = [int(s) for s in rng.integers(0, 2**31, planned)]
        async with turns:
            if not stops:
                candidates = list(await asyncio.gather(*(policy.generate(prompt, s) for s in seeds)))
                scores = await _scored(reward, prompt, candidates)
            else:
                candidates, scores = [], []
                for s in seeds:
                    candidates.append(await policy.generate(prompt, s))
                    scores += await _scored(reward, prompt, candidates[-1:])
                    if scores[-1] >= float(ceiling):  # type: ignore[arg-type]
                        break
        index = choose(scores, law, rng)
        done += 1
        if report is not None:
            report("selecting", done / len(prompts))
        return Selected(prompt, candidates[index], index, tuple(scores), tuple(candidates), planned)

    return list(await asyncio.gather(*(one(k, prompt) for k, prompt in enumerate(prompts))))


async def _scored(reward: Score, prompt: str, candidates: Sequence[str]) -> list[float]:
    made = reward(prompt, candidates)
    values = await made if inspect.isawaitable(made) else made
    found = [float(v) for v in values]
    if len(found) != len(candidates):
        raise DataError(
            f"the reward gave {len(found)} scores for {len(candidates)} candidates.", expected="one for each"
        )
    return found


def _one(value: ArrayLike) -> float:
    found = np.asarray(value, np.float64)
    if found.ndim:
        raise DataError(f"a parameter of the shape {found.shape}.", expected="one law, not a family")
    return float(found)
