"""What a trained policy says when it is asked: how the principles vote between its answers and what was chosen.

Answers are made once and kept; the judge's answers stand in a journal, so that a second run asks only what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.collect import collect, plan, questions_of
from discretion.comparison import Comparisons, content_id
from discretion.constitution import Constitution
from discretion.errors import EmptyError, JudgeError, ReadError, StudyError
from discretion.journal import Journal
from discretion.judges.opening import open_judge
from discretion.judges.spec import Options, Spec
from discretion.judging import JOURNAL, with_secret
from discretion.metrics import resampling
from discretion.metrics.agreement import CONFLICT, INDIFFERENCE, states
from discretion.metrics.arbitrariness import rate
from discretion.training.lost import Drawn, summarised
from discretion.whole import write_whole

ANSWERS = "answers.json"
"""The file of a policy's answers, in its station's folder."""

LIES = ("policy", "chosen", "neither", "conflict")
"""How votes lie between an answer and the chosen response: of a principle for one, the other or neither; of all
principles together in consensus for one or the other, in conflict, or silent ("neither")."""

Int8 = NDArray[np.int8]
Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Asked:
    """A prompt that policies are to answer.

    Parameters
    ----------
    id : str
        Of the comparison that it is from.
    prompt, chosen : str
        The response that the annotator chose there.
    """

    id: str
    prompt: str
    chosen: str


def prompts_of(comparisons: Comparisons, choice: Int8, most: int | None = None) -> list[Asked]:
    """Return each prompt once, with what was chosen in its first comparison that was decided.

    Parameters
    ----------
    comparisons : Comparisons
    choice : int8 (N,)
        The annotator's.
    most : int, optional
        Only the first so many.
    """
    found: dict[str, Asked] = {}
    for c, y in zip(comparisons, choice, strict=True):
        if c.prompt and abs(int(y)) == 1:
            found.setdefault(c.prompt, Asked(c.id, c.prompt, c.first if y == 1 else c.second))
    return list(found.values())[:most]


def answer(
    model: str | Path, asked: Sequence[Asked], folder: Path, *, each: int = 2, new_tokens: int = 256,
    temperature: float = 1.0, seed: int = 0, device: str = "", report: Callable[[float], None] | None = None,
) -> Comparisons:  # fmt: skip
    """Let a policy answer, and return its answers (first) against what was chosen (second); kept in `folder`.

    Each is kept with the length that it was allowed: answers of another length are made anew.

    Raises
    ------
    JudgeError, StudyError
        The model cannot be loaded.
    EmptyError
        It has no answer to any prompt.
    ReadError
        The folder's answers cannot be read.
    """
    path = folder / ANSWERS
    texts: dict[str, str | None] = {}
    if path.is_file():
        try:
            rows = json.loads(path.read_text("utf-8"))
            texts = {str(row["id"]): row["answer"] for row in rows if row.get("new_tokens") == new_tokens}
        except (ValueError, OSError, TypeError, KeyError, AttributeError) as error:
            raise ReadError("holds no answers.", path=path, remedy="Remove the file, and run this again.") from error
    by_id = {f"{a.id}/{k}": (n, a, k) for n, a in enumerate(asked) for k in range(each)}
    missing = {i: one for i, one in by_id.items() if i not in texts}
    if missing:
        texts |= asyncio.run(_answers(model, missing, new_tokens, temperature, seed, device, report))
        rows = [{"id": i, "new_tokens": new_tokens, "answer": text} for i, text in texts.items()]
        made = json.dumps(rows, ensure_ascii=False, indent=0)
        write_whole(path, lambda part: part.write_text(made + "\n", "utf-8"), StudyError)
    said = {i: text for i in by_id if (text := texts[i]) is not None}
    if not said:
        raise EmptyError(f"{model} has no answer to any of {len(asked)} prompts: they leave no room for one.")
    of = [by_id[i][1] for i in said]
    frame = pl.DataFrame(
        {
            "id": list(said),
            "prompt": [one.prompt for one in of],
            "first": list(said.values()),
            "second": [one.chosen for one in of],
        }
    )
    return Comparisons(frame, str(path))


async def _answers(
    model: str | Path, asked: Mapping[str, tuple[int, Asked, int]], new_tokens: int, temperature: float, seed: int,
    device: str, report: Callable[[float], None] | None,
) -> dict[str, str | None]:  # fmt: skip
    """Return an answer to each; None where the prompt leaves no room for one."""
    from discretion.hedge.generate import LocalPolicy
    from discretion.judges.models import load

    policy = LocalPolicy(load(model, device=device or None), max_tokens=new_tokens, temperature=temperature)
    texts: dict[str, str | None] = {}
    for done, (i, (n, one, k)) in enumerate(asked.items()):
        texts[i] = None
        with contextlib.suppress(JudgeError):
            texts[i] = await policy.generate(one.prompt, _seed(seed, n, k))
        if report is not None:
            report((done + 1) / len(asked))
    return texts


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def judged(
    judge: str, answers: Mapping[str, Comparisons], constitution: Constitution, folder: Path, options: Options,
    report: Report | None = None,
) -> dict[str, Int8]:  # fmt: skip
    """Ask a judge what each principle prefers, and return its votes, int8 (n, P), by policy.

    Parameters
    ----------
    judge : str
        "KIND:MODEL", as for `discretion judge --oracle`.
    answers : mapping
        Of each policy, as `answer` returns them.
    folder : Path
        Where the journal stands.

    Raises
    ------
    StudyError, JudgeError, ExtraError
        There is no such judge, or it cannot be asked.
    """
    place = folder / JOURNAL
    folder.mkdir(parents=True, exist_ok=True)
    questions = questions_of(constitution)
    found: dict[str, Int8] = {}
    asks = open_judge(Spec.parse(judge), with_secret(options, place))
    with Journal.open(place) as journal:
        for name, comparisons in answers.items():
            planned = plan(asks, journal, comparisons, questions)
            told = None if report is None else _telling(report, f"judging {name}")
            collect(planned, journal, report=told)
            content = {c.id: content_id(c.prompt, c.first, c.second) for c in comparisons}
            found[name] = journal.votes(planned.digest, list(content), questions, content).reconciled()
    return found


def _telling(report: Report, stage: str) -> Callable[[object], None]:
    def tell(progress: object) -> None:
        asked, missing = int(getattr(progress, "asked", 0)), int(getattr(progress, "missing", 0))
        report(stage, asked / max(asked + missing, 1))

    return tell


def lies_frame(
    votes: Mapping[str, Int8], answers: Mapping[str, Comparisons], stations: Mapping[str, Sequence[str]],
    principles: Sequence[str], *, replicates: int = 1000, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """Say how the votes lie at each station.

    Parameters
    ----------
    votes : mapping
        int8 (n, P) by policy: +1 for its answer, -1 for the chosen response.
    answers : mapping
        By policy; prompts are resampled, the same for all of them.
    stations : mapping
        From a station to its policies, one a seed.

    Returns
    -------
    polars.DataFrame
        station, principle (null: all together), lies (see `LIES`), estimate, se, low, high, sd_seeds, seeds, n.
    """
    prompts = sorted({c.prompt or "" for found in answers.values() for c in found})
    place = {prompt: k for k, prompt in enumerate(prompts)}
    weights = resampling.bootstrap_weights(np.random.default_rng(seed), replicates, len(prompts)).astype(np.float64)
    every = np.vstack([np.ones((1, len(prompts))), weights])
    sizes = [np.bincount([place[one.prompt or ""] for one in found]) for found in answers.values()]
    worth = min((float(n.sum() / (n.astype(np.float64) ** 2).sum()) for n in sizes), default=1.0)
    rows: list[dict[str, object]] = []
    for station, members in stations.items():
        for c, principle in enumerate([None, *principles]):
            shares = []
            for name in members:
                units = np.array([place[one.prompt or ""] for one in answers[name]])
                shares.append(_shares(_lying(votes[name], c - 1), units, every))
            for k, lies in enumerate(LIES if principle is None else LIES[:3]):
                share, n = (np.stack([one[j][:, k] for one in shares], axis=1) for j in (0, 1))
                about = {"station": station, "principle": principle, "lies": lies}
                rows.append(about | summarised(Drawn(share[0], share[1:], n[0]), (0, 1), counted=True, worth=worth))
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.with_columns(pl.col("principle").cast(pl.String))


def _lying(X: Int8, principle: int) -> NDArray[np.float64]:
    """Return how each comparison's votes lie, (n, 4) of 0 and 1; all 0 where nothing was judged."""
    if principle >= 0:
        x = X[:, principle]
        return np.column_stack([x == 1, x == -1, x == 0, np.zeros(len(x))]).astype(np.float64)
    state, direction, _ = states(X)
    return np.column_stack([direction == 1, direction == -1, state == INDIFFERENCE, state == CONFLICT]).astype(
        np.float64
    )


def _shares(
    lying: NDArray[np.float64], units: NDArray[np.intp], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sums = np.zeros((weights.shape[1], lying.shape[1]))
    np.add.at(sums, units, lying)
    counts = weights @ sums
    return rate(counts, counts.sum(axis=1, keepdims=True) * np.ones_like(counts))
