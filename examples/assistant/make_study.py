"""Make the oracle and the annotators of the example from its texts and hand judgements.

What an audit should find is planted in the tables below. Each file and each rater draws from a stream of its
own, so that a change to one leaves the others byte for byte as they were.
"""

from __future__ import annotations

import csv
import json
import tomllib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
SEED = 314
"""Chosen so that the few conflicts rank all ten principles for each of the first four annotators."""

ANNOTATORS = ("panel", "safety_team", "product_team", "judge", "city", "village")
STRENGTHS = {
    "Avoid harm":          (9, 9, 0, 7, 6, 4),
    "Be honest":           (8, 1, 2, 11, 8, 4),
    "Protect privacy":     (7, 7, 2, 7, 5, 3),
    "Treat people fairly": (6, 1, 1, 2.5, 9, 2),
    "Be helpful":          (5, 0, 10, 6, 4, 3),
    "Balance both sides":  (4, 3, 0, 4, 7, 0),
    "Know your role":      (3, 9, 0, 2, 3, 1),
    "Respect autonomy":    (2, 0, 6, 2, 2, 9),
    "Be kind":             (1, 6, 7, 1, 1, 8),
    "Be brief":            (0, 6, 8, 0, 0, 6),
}  # fmt: skip
"""In conflict, the log-odds of the first response are `SCALE` times the strengths of the principles for it
less those of the principles against it."""
SCALE = 0.6
LEAN = 0.6
"""Weight of a leaning judgement (1 or -1), where a clear one (2 or -2) weighs 1."""
AGAINST = dict(zip(ANNOTATORS, (0.08, 0.04, 0.12, 0.02, 0.08, 0.12), strict=True))
"""Share of the consensus comparisons in which an annotator contradicts the principles."""
TIES = 0.4
"""Share of the indifferent comparisons left undecided; a coin decides the others."""

REWARD_LENGTH, REWARD_TASTE, REWARD_NOISE = 4.0, 0.02, 0.6
"""A reward difference: log-ratio of the lengths, the panel's log-odds, and chance, with these weights."""

ORACLE_UNSTABLE = 0.165
"""Share of the leaning judgements in which the oracle prefers whichever response it is shown first."""
ORACLE_GLIMPSE = 0.03
"""Share of the silent judgements with a weak preference for the response shown first, in one order only."""
ORACLE_REFUSED = {
    ("everyday-15", "Protect privacy", 0),
    ("medical-06", "Be kind", 1),
    ("safety-11", "Be honest", 0),
}
"""Judgements with little answer mass, as after a refusal: comparison, principle, order."""

JUDGE_UNSTABLE = {"consensus": 0.06, "conflict": 0.16, "indifference": 0.2}
"""Share of the comparisons in which the judge goes by position: four times in five for the first."""

COMMUNITIES = {"city": range(1, 13), "village": range(13, 25)}
CARELESS = {"r07": 0.4, "r20": 0.4}
"""Raters who contradict the principles this often, and who decide conflicts almost by a coin."""

Choices = NDArray[np.int64]
Reals = NDArray[np.float64]
Row = tuple[object, ...]


def main() -> None:
    comparisons = read_lines(HERE / "comparisons.jsonl")
    judged = {row["id"]: row["votes"] for row in read_lines(HERE / "judgements.jsonl")}
    constitution = tomllib.loads((HERE / "constitution.toml").read_text("utf-8"))
    principles = [str(principle["name"]) for principle in constitution["principles"]]
    ids = [str(row["id"]) for row in comparisons]
    votes = np.array([[judged[i].get(p, 0) for p in principles] for i in ids], np.int64)
    lengths = np.array([(len(row["response_0"]), len(row["response_1"])) for row in comparisons], np.float64)
    # By name: the order of the constitution is the order of the columns of votes.
    strengths = {who: np.array([STRENGTHS[p][k] for p in principles], np.float64) for k, who in enumerate(ANNOTATORS)}

    chosen = {
        who: [int(v) for v in choices(votes, strengths[who], AGAINST[who], stream(who))] for who in ANNOTATORS[:4]
    }
    words = {1: "response_0", -1: "response_1", 0: "tie"}
    safety_team = zip(ids, (words[value] for value in chosen["safety_team"]), strict=True)
    rewards = reward_model(ids, lengths, log_odds(votes, strengths["panel"]))
    judged_twice = judge(ids, votes, chosen["judge"])

    answer = ("prob_A", "prob_B", "prob_NA")
    write_csv("oracle.csv", ("comparison_id", "principle", "order", *answer), oracle(ids, principles, votes))
    write_csv("annotators/panel.csv", ("comparison_id", "value"), zip(ids, chosen["panel"], strict=True))
    write_csv("annotators/safety_team.csv", ("comparison_id", "preference"), safety_team)
    product_team = zip(ids, chosen["product_team"], strict=True)
    write_lines("annotators/product_team.jsonl", ("comparison_id", "value"), product_team)
    write_csv("annotators/reward_model.csv", ("comparison_id", "reward_a", "reward_b"), rewards)
    write_csv("annotators/judge.csv", ("comparison_id", "order", *answer), judged_twice)
    ratings = raters(ids, votes, strengths)
    write_csv("annotators/raters.csv", ("comparison_id", "rater", "community", "value"), ratings)


def stream(name: str) -> np.random.Generator:
    """Return the randomness that belongs to one file or rater."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def states(votes: Choices) -> tuple[NDArray[np.str_], Choices]:
    """Return the state of each comparison and the direction of its consensus, from votes (N, P)."""
    first, second = (votes > 0).any(axis=1), (votes < 0).any(axis=1)
    direction: Choices = np.subtract(first, second, dtype=np.int64)
    state = np.where(first & second, "conflict", np.where(direction != 0, "consensus", "indifference"))
    return state, direction


def log_odds(votes: Choices, strength: Reals) -> Reals:
    """Return the planted log-odds of the first response (N,)."""
    weight = np.sign(votes) * np.where(np.abs(votes) == 2, 1.0, LEAN)
    return np.asarray(SCALE * (weight @ strength))


def choices(
    votes: Choices, strength: Reals, against: float, rng: np.random.Generator, sharpness: float = 1.0
) -> Choices:
    """Return an annotator's preferences, +1, -1 or 0 (N,)."""
    state, direction = states(votes)
    chance, tie = rng.random((2, len(votes)))
    odds = np.where(state == "conflict", sharpness * log_odds(votes, strength), 0.0)
    picked = np.where(chance < 1 / (1 + np.exp(-odds)), 1, -1)
    picked[(state == "indifference") & (tie < TIES)] = 0
    consensus = np.flatnonzero(state == "consensus")
    picked[consensus] = direction[consensus]
    # Without replacement, so that the planted share is met exactly and not only on average.
    picked[rng.choice(consensus, round(against * len(consensus)), replace=False)] *= -1
    return picked


def oracle(ids: Sequence[str], principles: Sequence[str], votes: Choices) -> Iterator[Row]:
    """Yield the oracle's judgements: sure where the hand judgement is clear, wavering where it leans."""
    rng = stream("oracle, asked twice")
    for i, row in zip(ids, votes, strict=True):
        for principle, vote in zip(principles, row, strict=True):
            wavers = rng.random() < (ORACLE_UNSTABLE if vote else ORACLE_GLIMPSE) and abs(vote) != 2
            glimpse = int(rng.integers(2))  # the order of a silent judgement's weak preference
            for order in (0, 1):
                side = int(np.sign(vote)) * (1 if order == 0 else -1)  # +1: the response shown as A
                low, high = {2: (0.90, 0.99), 1: (0.62, 0.79), 0: (0.85, 0.995)}[abs(int(vote))]
                # Squared: sure judgements crowd towards the top, as those of language models do.
                top, rest = high - (high - low) * rng.random() ** 2, rng.uniform(0.2, 0.4)
                weak = rng.uniform(0.48, 0.62)
                if wavers and (vote or order == glimpse):
                    side, top = 1, weak
                answer = presented(side, top, rest)
                if (i, principle, order) in ORACLE_REFUSED:
                    answer = ("0.0700", "0.0500", "0.0800")
                yield (i, principle, order, *answer)


def judge(ids: Sequence[str], votes: Choices, verdicts: Sequence[int]) -> Iterator[Row]:
    """Yield a judge's answers in both orders, some of which go by position."""
    rng = stream("judge in both orders")
    for i, state, verdict in zip(ids, states(votes)[0], verdicts, strict=True):
        position = (1 if rng.random() < 0.8 else -1) if rng.random() < JUDGE_UNSTABLE[str(state)] else 0
        for order in (0, 1):
            side = position or verdict * (1 if order == 0 else -1)
            top = rng.uniform(0.5, 0.7) if position else rng.uniform(0.7, 0.98)
            yield (i, order, *presented(side, top, 0.7))


def presented(side: int, top: float, rest: float) -> tuple[str, str, str]:
    """Return the probabilities of A, B and NA, 4 decimals that sum to 1.

    `top` goes to A (`side` 1), B (-1) or NA (0). Of what remains, the share `rest` goes to the response
    that was not chosen (to B beside NA).
    """
    units = round(10_000 * top)
    other = round((10_000 - units) * rest)
    left = 10_000 - units - other
    a, b, neither = {1: (units, other, left), -1: (other, units, left), 0: (left, other, units)}[side]
    return f"{a / 10_000:.4f}", f"{b / 10_000:.4f}", f"{neither / 10_000:.4f}"


def reward_model(ids: Sequence[str], lengths: Reals, taste: Reals) -> Iterator[Row]:
    """Yield the scores of both responses: a level of the question's own, and half the difference each way."""
    rng = stream("reward_model")
    level, noise = rng.normal(-0.5, 1.5, len(ids)), rng.normal(0.0, REWARD_NOISE, len(ids))
    gap = REWARD_LENGTH * np.log(lengths[:, 0] / lengths[:, 1]) + REWARD_TASTE * taste + noise
    for i, at, half in zip(ids, level, gap / 2, strict=True):
        yield i, f"{at + half:.4f}", f"{at - half:.4f}"


def raters(ids: Sequence[str], votes: Choices, strengths: dict[str, Reals]) -> Iterator[Row]:
    """Yield the ratings of each rater, who has the community's strengths and a sharpness of their own."""
    for community, numbers in COMMUNITIES.items():
        for rater in (f"r{number:02d}" for number in numbers):
            rng = stream(rater)
            rated = np.sort(rng.choice(len(ids), int(rng.integers(40, 61)), replace=False))
            sharpness = 0.15 if rater in CARELESS else rng.uniform(0.8, 1.2)
            against = CARELESS.get(rater, AGAINST[community])
            values = choices(votes[rated], strengths[community], against, rng, sharpness)
            for row, value in zip(rated, values, strict=True):
                yield ids[row], rater, community, value


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_csv(name: str, header: Sequence[str], rows: Iterable[Row]) -> None:
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_lines(name: str, keys: Sequence[str], rows: Iterable[Row]) -> None:
    text = "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    (HERE / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
