"""A world whose truth is known: planted priorities, annotators' noise, an oracle's errors, communities and topics.

For tests, for trying out how large a study must be, and for seeing what an audit can and cannot tell. Votes are drawn,
texts are placeholders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from discretion.constitution import Constitution
from discretion.errors import DataError, shown
from discretion.metrics.agreement import states
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING, Votes
from discretion.whole import write_whole

Float = NDArray[np.float64]
Int8 = NDArray[np.int8]

DEVIANCES = ("noisy", "reversed")
"""How a deviant rater deviates: it tosses a coin, or decides the other way round."""


@dataclass(frozen=True)
class Voter:
    """An annotator, or what the raters of a community have in common.

    Parameters
    ----------
    name : str
    priorities : P logits
        In a conflict each side has the strength of its principles, the sum of e^w, and wins in proportion (Luce's
        choice). Where two principles clash this is Bradley and Terry's model, and a fit finds the logits; with
        more on a side it finds about them.
    arbitrary : float
        How often it goes against a consensus.
    indifferent : float
        How often it prefers neither.
    missing : float
        How often it was not asked.
    """

    name: str
    priorities: Sequence[float]
    arbitrary: float = 0.1
    indifferent: float = 0.0
    missing: float = 0.0


@dataclass(frozen=True)
class Oracle:
    """How the oracle errs on what principles prefer.

    Parameters
    ----------
    wrong : float
        How often it takes the other response for a principle that has a preference.
    missed : float
        How often it sees none where there is one.
    spurious : float
        How often it sees one where there is none.
    first_shown : float
        How often, in each order by itself, it takes what is shown first whatever the principle.
    """

    wrong: float = 0.0
    missed: float = 0.0
    spurious: float = 0.0
    first_shown: float = 0.0


@dataclass(frozen=True)
class Raters:
    """Many people with a few labels each.

    Parameters
    ----------
    count : int
    each : int
        Comparisons that each labels.
    communities : sequence of Voter
    shares : sequence of float, optional
        Of the raters, by community; equal by default.
    deviant : float
        Share of the raters that deviate.
    deviance : str
        One of `DEVIANCES`.
    """

    count: int
    each: int
    communities: Sequence[Voter]
    shares: Sequence[float] | None = None
    deviant: float = 0.0
    deviance: str = "noisy"


@dataclass(frozen=True)
class World:
    """What comparisons, principles, annotators and the oracle are like.

    Parameters
    ----------
    principles : P names
    active : float, (P,) or (T, P)
        How often a principle prefers a response, by topic.
    together : float or (P,)
        How often a principle that votes votes for the response that the others lean to: 1/2 is no relation, 1 leaves no
        conflict.
    topics : T names
    topic_shares : (T,), optional
        Equal by default.
    cluster : int
        Comparisons of one prompt: they share their topic, and which response the principles lean to.
    annotators : sequence of Voter
    oracle : Oracle
    raters : Raters, optional
    """

    principles: Sequence[str]
    active: ArrayLike = 0.5
    together: ArrayLike = 0.8
    topics: Sequence[str] = ("all",)
    topic_shares: Sequence[float] | None = None
    cluster: int = 1
    annotators: Sequence[Voter] = ()
    oracle: Oracle = field(default_factory=Oracle)
    raters: Raters | None = None

    def __post_init__(self) -> None:
        p, t = len(self.principles), len(self.topics)
        if not p or not t or self.cluster < 1:
            raise DataError(f"{p} principles, {t} topics, clusters of {self.cluster}.", expected="one or more of each")
        for name, value, shape in (("active", self.active, (t, p)), ("together", self.together, (p,))):
            _share(name, value)
            try:
                np.broadcast_to(np.asarray(value, np.float64), shape)
            except ValueError as error:
                raise DataError(
                    f"{name} has the shape {np.shape(value)}.", expected=f"one that fits {shape}"
                ) from error
        _shares("topic_shares", self.topic_shares, t)
        for part in ("wrong", "missed", "spurious", "first_shown"):
            _share(f"oracle.{part}", getattr(self.oracle, part))
        if self.oracle.wrong + self.oracle.missed > 1:
            raise DataError(
                "the oracle is wrong and misses more often than it is asked.", expected="at most 1 together"
            )
        voters = [*self.annotators, *(self.raters.communities if self.raters else ())]
        for voter in voters:
            for part in ("arbitrary", "indifferent", "missing"):
                _share(f"{voter.name}: {part}", getattr(voter, part))
            if np.shape(voter.priorities) != (p,) or not np.isfinite(np.asarray(voter.priorities, np.float64)).all():
                raise DataError(
                    f"{shown(voter.name)} has {np.size(voter.priorities)} priorities.", expected=f"{p} finite logits"
                )
        if self.raters is not None:
            r = self.raters
            if r.count < 1 or r.each < 1 or not r.communities or r.deviance not in DEVIANCES:
                raise DataError(
                    f"{r.count} raters of {r.each} comparisons, {len(r.communities)} communities, {shown(r.deviance)}.",
                    expected=f"one or more of each, deviating as one of {', '.join(DEVIANCES)}",
                )
            _share("raters.deviant", r.deviant)
            _shares("raters.shares", r.shares, len(r.communities))

    def draw(self, n: int, rng: np.random.Generator | int) -> Drawn:
        """Draw n comparisons; the same generator, or seed, gives the same world."""
        if n < 1:
            raise DataError(f"n = {n}.", expected="one comparison or more")
        if self.raters is not None and self.raters.each > n:
            raise DataError(
                f"each rater labels {self.raters.each} of {n} comparisons.", expected="no more than there are"
            )
        rng = np.random.default_rng(rng)
        prompts = -(-n // self.cluster)
        of = np.repeat(np.arange(prompts), self.cluster)[:n]
        topic = rng.choice(len(self.topics), prompts, p=_even(self.topic_shares, len(self.topics)))[of]
        lean = (rng.integers(0, 2, prompts) * 2 - 1)[of]
        truth = self._truth(topic, lean, rng)
        votes = _judged(truth, self.oracle, rng)
        annotators = [Annotator(v.name, _labels(v, truth, rng), source="simulated") for v in self.annotators]
        community, deviant = np.empty(0, np.int64), np.empty(0, np.bool_)
        if self.raters is not None:
            groups, people, community, deviant = _people(self.raters, truth, rng)
            annotators += [*groups, *people]
        attributes = pl.DataFrame(
            {"topic": np.array(self.topics, dtype=object)[topic].tolist(), "prompt_id": [f"q{k}" for k in of.tolist()]}
        )
        table = PreferenceTable(
            ids=pl.Series("id", [f"c{k}" for k in range(n)]),
            constitution=Constitution.from_texts(list(self.principles), list(self.principles)),
            X=votes.reconciled(),
            annotators=tuple(annotators),
            attributes=attributes,
            oracle=votes,
        )
        return Drawn(self, table, truth, community, deviant)

    def _truth(self, topic: NDArray[np.int64], lean: NDArray[np.int64], rng: np.random.Generator) -> Int8:
        n, p = len(topic), len(self.principles)
        active = np.broadcast_to(np.asarray(self.active, np.float64), (len(self.topics), p))
        votes = rng.random((n, p), np.float32) < active[topic]
        along = rng.random((n, p), np.float32) < np.broadcast_to(np.asarray(self.together, np.float64), (p,))
        return np.where(votes, np.where(along, lean[:, None], -lean[:, None]), 0).astype(np.int8)


@dataclass(frozen=True)
class Drawn:
    """A world's comparisons.

    Parameters
    ----------
    world : World
    table : PreferenceTable
        With the oracle's votes: what an audit sees. Raters are annotators of the kind "rater", each community's
        majority one of the kind "group".
    truth : int8 (N, P)
        What the principles prefer.
    community : int64 (R,)
        Of each rater.
    deviant : bool (R,)
    """

    world: World
    table: PreferenceTable
    truth: Int8
    community: NDArray[np.int64]
    deviant: NDArray[np.bool_]

    @property
    def true_table(self) -> PreferenceTable:
        """The table with an oracle that does not err: its audit has the true figures, but for sampling."""
        return replace(self.table, X=self.truth, oracle=None)

    def write(self, folder: str | Path) -> Path:
        """Write the study as a folder that `discretion audit` reads; texts are placeholders.

        Raises
        ------
        DataError
            It cannot be written.
        """
        folder = Path(folder)
        ids = self.table.ids.to_list()
        topics, prompts = (self.table.attributes[name].to_list() for name in ("topic", "prompt_id"))
        rows = [
            {"id": i, "prompt": f"Question {q} about {t}.", "response_a": f"First answer to {i}.",
             "response_b": f"Second answer to {i}.", "topic": t, "prompt_id": q}
            for i, t, q in zip(ids, topics, prompts, strict=True)
        ]  # fmt: skip
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        names = list(self.table.constitution.names)
        write_whole(folder / "comparisons.jsonl", lambda part: part.write_text(lines, "utf-8"), DataError)
        write_whole(
            folder / "constitution.txt", lambda part: part.write_text("\n".join(names) + "\n", "utf-8"), DataError
        )
        write_whole(folder / "oracle.csv", self._oracle_frame(ids, names).write_csv, DataError)
        people = []
        for annotator in self.table.annotators:
            at = np.arange(len(ids)) if annotator.rows is None else annotator.rows
            there = annotator.values != MISSING
            frame = pl.DataFrame(
                {"comparison_id": [ids[k] for k in at[there]], "value": annotator.values[there].astype(np.int64)}
            )
            if annotator.kind == "rater":
                people.append(frame.with_columns(rater=pl.lit(annotator.name)))
            elif annotator.kind != "group":
                write_whole(folder / "annotators" / f"{annotator.name}.csv", frame.write_csv, DataError)
        if people:
            raters = self.world.raters
            names_of = [v.name for v in raters.communities] if raters is not None else []
            about = pl.DataFrame(
                {"rater": [f"r{k}" for k in range(len(self.community))],
                 "community": [names_of[k] for k in self.community.tolist()]}
            )  # fmt: skip
            every = pl.concat(people).join(about, on="rater", how="left")
            write_whole(folder / "annotators" / "raters.csv", every.write_csv, DataError)
        return folder

    def _oracle_frame(self, ids: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
        votes = self.table.oracle
        if votes is None:
            raise DataError("the table has no oracle.")
        order, row, principle = np.nonzero(votes.asked)
        shown_as = votes.probabilities[order, row, principle]
        shown_as = np.where(order[:, None] == 1, shown_as[:, [1, 0, 2]], shown_as)  # as presented
        return pl.DataFrame(
            {
                "comparison_id": [ids[k] for k in row.tolist()],
                "principle": [names[k] for k in principle.tolist()], "order": order,
                "prob_A": shown_as[:, 0], "prob_B": shown_as[:, 1], "prob_NA": shown_as[:, 2],
            }
        )  # fmt: skip


def _labels(voter: Voter, truth: Int8, rng: np.random.Generator) -> Int8:
    """Return a voter's choices, int8 (N,)."""
    n = len(truth)
    w = np.exp(np.asarray(voter.priorities, np.float64) - np.max(voter.priorities))
    first, second = (truth == 1) @ w, (truth == -1) @ w
    strength = first + second
    chance = np.divide(first, strength, out=np.full(n, 0.5), where=strength > 0)
    _, way, _ = states(truth)
    chance = np.where(way == 1, 1 - voter.arbitrary, np.where(way == -1, voter.arbitrary, chance))
    found = np.where(rng.random(n) < chance, 1, -1).astype(np.int8)
    found[rng.random(n) < voter.indifferent] = 0
    found[rng.random(n) < voter.missing] = MISSING
    return found


def _judged(truth: Int8, oracle: Oracle, rng: np.random.Generator) -> Votes:
    """Return the oracle's votes in both orders, (2, N, P, 3): errors are of the case, position is of the order."""
    draw = rng.random(truth.shape, np.float32)
    seen = np.where(draw < oracle.wrong, -truth, np.where(draw < oracle.wrong + oracle.missed, 0, truth))
    ghost = (truth == 0) & (rng.random(truth.shape, np.float32) < oracle.spurious)
    seen = np.where(ghost, rng.integers(0, 2, truth.shape) * 2 - 1, seen).astype(np.int8)
    p = np.empty((2, *truth.shape, 3))
    for order in (0, 1):
        shown_first = 1 if order == 0 else -1
        said = np.where(rng.random(truth.shape, np.float32) < oracle.first_shown, shown_first, seen)
        sure = 0.7 + 0.29 * rng.random(truth.shape)
        for place, vote in enumerate((1, -1, 0)):
            p[order, ..., place] = np.where(said == vote, sure, (1 - sure) / 2)
    return Votes(p)


def _people(
    raters: Raters, truth: Int8, rng: np.random.Generator
) -> tuple[list[Annotator], list[Annotator], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the communities' majorities, the raters, the community of each, and who deviates."""
    n = len(truth)
    community = np.sort(
        rng.choice(len(raters.communities), raters.count, p=_even(raters.shares, len(raters.communities)))
    )
    deviant = rng.random(raters.count) < raters.deviant
    people = []
    sums = np.zeros((len(raters.communities), n), np.int64)
    asked = np.zeros((len(raters.communities), n), np.bool_)
    for k in range(raters.count):
        rows = np.sort(rng.choice(n, raters.each, replace=False)).astype(np.int32)
        values = _labels(raters.communities[community[k]], truth[rows], rng)
        if deviant[k]:
            values = _deviating(values, raters.deviance, rng)
        about = {"community": raters.communities[community[k]].name}
        people.append(Annotator(f"r{k}", values, rows, kind="rater", source="simulated", about=about))
        known = values != MISSING
        sums[community[k], rows[known]] += values[known]
        asked[community[k], rows[known]] = True
    majorities = np.where(asked, np.sign(sums), MISSING).astype(np.int8)
    groups = [
        Annotator(voter.name, majorities[c], kind="group", source="majority of its raters")
        for c, voter in enumerate(raters.communities)
    ]
    return groups, people, community.astype(np.int64), deviant


def _deviating(values: Int8, deviance: str, rng: np.random.Generator) -> Int8:
    coins = rng.integers(0, 2, len(values)) * 2 - 1
    other = coins if deviance == "noisy" else -values.astype(np.int16)
    return np.where(values != MISSING, other, MISSING).astype(np.int8)


def _share(name: str, value: ArrayLike) -> None:
    values = np.asarray(value, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"{name} = {shown(value)}.", expected="a share from 0 to 1")


def _shares(name: str, value: Sequence[float] | None, n: int) -> None:
    if value is None:
        return
    _share(name, value)
    if len(value) != n or abs(sum(value) - 1) > 1e-9:
        raise DataError(f"{name} has {len(value)} shares with the sum {sum(value):g}.", expected=f"{n} with the sum 1")


def _even(shares: Sequence[float] | None, n: int) -> Float:
    return np.full(n, 1.0 / n) if shares is None else np.asarray(shares, np.float64) / np.sum(shares)
