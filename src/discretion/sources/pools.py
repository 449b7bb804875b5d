"""Pools of candidates from files: a row a candidate, a row a prompt with lists, or a known public format.

What is read is arrays and names; what is made of them stands in `hedge.pool`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import ColumnError, ReadError, StudyError, shown
from discretion.sources.columns import listed
from discretion.sources.files import decoded, json_lines, read_bytes, read_frame
from discretion.study_file import nearest

PROMPTS = ("prompt_id", "task_id", "problem_id", "problem_num", "id", "prompt")
PROXIES = ("proxy", "proxy_reward", "reward", "judge_score", "score")
TRUES = ("true", "true_reward", "gold", "gold_reward", "correct", "label")


@dataclass(frozen=True)
class PoolRows:
    """Candidates as they stand in a file.

    Parameters
    ----------
    proxy, true : float64 (M,)
        NaN where there is none.
    prompts : int64 (M,)
        The prompt of each, from 0.
    names : tuple of str
        The prompts.
    proxy_name, true_name : str
        What they are called.
    votes : mapping of str to int8 (M,)
        Principle votes of the candidates: +1 better than the prompt's reference answer, -1 worse, 0 neither.
    """

    proxy: NDArray[np.float64]
    true: NDArray[np.float64]
    prompts: NDArray[np.int64]
    names: tuple[str, ...]
    proxy_name: str = "proxy"
    true_name: str = "true reward"
    votes: dict[str, NDArray[np.int8]] = field(default_factory=dict)

    def first(self, most: int) -> PoolRows:
        """Return the first candidates of each prompt, at most so many."""
        seen: dict[int, int] = {}
        keep = np.zeros(len(self.prompts), np.bool_)
        for row, prompt in enumerate(self.prompts.tolist()):
            seen[prompt] = seen.get(prompt, 0) + 1
            keep[row] = seen[prompt] <= most
        votes = {name: values[keep] for name, values in self.votes.items()}
        return PoolRows(
            self.proxy[keep], self.true[keep], self.prompts[keep], self.names, self.proxy_name, self.true_name, votes
        )


def load_pool(
    path: str | Path,
    *,
    format: str | None = None,
    prompt: str | None = None,
    proxy: str | None = None,
    true: str | None = None,
    votes: str | None = None,
) -> PoolRows:
    """Read a pool.

    Parameters
    ----------
    path : path
        JSONL, CSV or Parquet: a row a candidate, or a row a prompt whose proxy and true reward are lists.
    format : str, optional
        One of `FORMATS`, for files of other layouts.
    prompt, proxy, true : str, optional
        The columns; by default the first there is of `PROMPTS`, `PROXIES`, `TRUES`. A minus before the proxy turns it:
        "-length" prefers the shortest.
    votes : str, optional
        What the columns with principle votes begin with: "vote:".

    Raises
    ------
    ReadError, ColumnError, StudyError
        The file cannot be read, or lacks a column.
    """
    if format is not None:
        if format not in FORMATS:
            raise StudyError(f"there is no format {shown(format)} of a pool. {nearest(format, FORMATS)}")
        return FORMATS[format](Path(path))
    frame = read_frame(path)
    turned = proxy is not None and proxy.startswith("-") and proxy not in frame.columns
    named = proxy[1:] if proxy is not None and turned else proxy
    by = _column(frame, prompt, PROMPTS, "the prompt", path)
    first = _column(frame, named, PROXIES, "the proxy reward", path)
    second = _column(frame, true, TRUES, "the true reward", path)
    columns = [first, second]
    if votes is not None:
        columns += [name for name in frame.columns if name.startswith(votes)]
        if len(columns) == 2:
            raise ColumnError(f"no column begins with {shown(votes)}; it has {listed(frame.columns)}.", path=path)
    series = {name: _lists(frame[name]) for name in columns}
    sizes = [len(value) if isinstance(value, list) else 1 for value in series[first]]
    flat: dict[str, list[Any]] = {}
    for name, values in series.items():
        flat[name] = []
        for row, (value, size) in enumerate(zip(values, sizes, strict=True), 1):
            one = value if isinstance(value, list) else [value]
            if len(one) != size:
                raise ReadError(
                    f"{len(one)} values of {name}, and {size} of {first}.",
                    expected="as many of both",
                    path=path,
                    row=row,
                )
            flat[name] += one
    keys = frame[by].cast(pl.String).fill_null("").to_list()
    names = tuple(dict.fromkeys(keys))
    place = {name: k for k, name in enumerate(names)}
    numbers = {name: _numbers(values, name, path) for name, values in flat.items()}
    sign = -1.0 if turned else 1.0
    return PoolRows(
        proxy=sign * numbers[first],
        true=numbers[second],
        prompts=np.repeat([place[key] for key in keys], sizes).astype(np.int64),
        names=names,
        proxy_name=f"-{first}" if turned else first,
        true_name=second,
        votes={
            name.removeprefix(votes or "").strip(): _votes(values, name, path)
            for name, values in numbers.items()
            if name not in (first, second)
        },
    )


def _column(frame: pl.DataFrame, given: str | None, known: Sequence[str], what: str, path: str | Path) -> str:
    found = given if given is not None else next((name for name in known if name in frame.columns), None)
    if found is None or found not in frame.columns:
        raise ColumnError(
            f"has no column {shown(found)} for {what}; it has {listed(frame.columns)}."
            if found is not None
            else f"has no column for {what}; it has {listed(frame.columns)}.",
            expected=f"one of {', '.join(known)}, or named by an option",
            path=path,
        )
    return found


def _lists(series: pl.Series) -> list[Any]:
    """Return the values of a column; nested JSON stands as text in a struct of one field."""
    if isinstance(series.dtype, pl.Struct):
        return [None if v is None else json.loads(v["json"]) for v in series.to_list()]
    return series.to_list()


def _numbers(values: Sequence[Any], name: str, path: str | Path) -> NDArray[np.float64]:
    found = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if value is None or value == "":
            continue
        try:
            text = str(value).strip().lower()
            found[row] = float(text == "true") if text in ("true", "false") else float(value)
        except (TypeError, ValueError) as error:
            raise ColumnError(
                f"{shown(value)} is no number.", expected="a number, true or false, empty where it is not known",
                path=path, column=name, row=row + 1,
            ) from error  # fmt: skip
    return found


def _votes(values: NDArray[np.float64], name: str, path: str | Path) -> NDArray[np.int8]:
    known = values[~np.isnan(values)]
    if not np.isin(known, (-1.0, 0.0, 1.0)).all():
        raise ColumnError(f"the votes {shown(name)} are not all -1, 0 or 1.", path=path, column=name)
    return np.where(np.isnan(values), -128, np.nan_to_num(values)).astype(np.int8)


def _boinf(path: Path) -> PoolRows:
    """Read answers with their lengths, a row a problem: right or wrong, and the shortest first."""
    proxy: list[float] = []
    true: list[float] = []
    sizes: list[int] = []
    names: list[str] = []
    for row, item in json_lines(decoded(read_bytes(path), path), path):
        try:
            answers = [(str(answer), float(length)) for answer, length in item["all_answers"]]
            gold, name = str(item["gold_answer"]), str(item["problem_num"])
        except (KeyError, TypeError, ValueError) as error:
            raise ReadError(
                "is no row of this format.", expected="all_answers (answer, length), gold_answer and problem_num",
                path=path, row=row,
            ) from error  # fmt: skip
        proxy += [-length for _, length in answers]
        true += [float(answer == gold) for answer, _ in answers]
        sizes.append(len(answers))
        names.append(name)
    return PoolRows(
        np.array(proxy), np.array(true), np.repeat(np.arange(len(names)), sizes).astype(np.int64), tuple(names),
        "-length", "correct",
    )  # fmt: skip


def _goodhart(path: Path) -> PoolRows:
    """Read judge-goodhart's rows: a model's answer, a judge's score, and whether the answer is right."""
    return load_pool(path, prompt="task_id", proxy="judge_score", true="correct")


FORMATS: dict[str, Callable[[Path], PoolRows]] = {"boinf": _boinf, "judge-goodhart": _goodhart}
"""Layouts of public files: BoInf's answers with lengths, judge-goodhart's scored answers."""
