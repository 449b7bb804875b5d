"""Making pools: candidates are generated and scored, a row each, and what a pool has is not made again."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np

from discretion.errors import DiscretionError, JudgeError, ReadError
from discretion.hedge.generate import Reward
from discretion.hedge.select import Policy
from discretion.judges.loops import to_the_end

Report = Callable[[str, float], None]


def sample_pool(
    prompts: Sequence[tuple[str, str]],
    policy: Policy,
    rewards: Mapping[str, Reward],
    path: Path,
    *,
    n: int,
    seed: int = 0,
    report: Report | None = None,
) -> dict[str, int]:
    """Generate n candidates of each prompt, score them, and add them to a pool, a prompt at a time.

    A prompt's candidates are written and flushed together: a run that is killed loses the prompts in flight only, and
    the next one goes on. Texts are kept as they are, as JSON.

    Parameters
    ----------
    prompts : sequence of (id, text)
    policy : Policy
    rewards : mapping of str to Reward
        By the name of their column.
    path : Path
        JSON lines; added to where it is there.
    n : int
    seed : int
        The k-th candidate of a prompt has a seed of its own.

    Returns
    -------
    dict
        `made`, `known` and `failed` (without a score) candidates.

    Raises
    ------
    JudgeError
        The policy does not answer, or the pool cannot be written. What was made is kept.
    ReadError
        The file is no pool.
    """
    known = _known(path)
    counts = {"made": 0, "known": 0, "failed": 0}
    missing = []
    for name, text in prompts:
        have = known.get(name, set())
        counts["known"] += len(have & set(range(n)))
        wanted = [k for k in range(n) if k not in have]
        if wanted:
            missing.append((name, text, wanted))

    problems: list[DiscretionError] = []

    async def run() -> None:
        done = 0
        async with cast("AbstractAsyncContextManager[object]", policy):
            turns = asyncio.Semaphore(8)  # prompts at a time; the policy limits its calls itself

            async def one(name: str, text: str, wanted: list[int]) -> None:
                nonlocal done
                async with turns:
                    if problems:  # what is in flight is finished and kept, nothing new is begun
                        return
                    stream = np.random.default_rng([seed, *name.encode()])
                    seeds = stream.integers(0, 2**31, n)
                    made = await asyncio.gather(*(policy.generate(text, int(seeds[k])) for k in wanted))
                    scored = {column: await asyncio.to_thread(reward, text, made) for column, reward in rewards.items()}
                rows = []
                for place, k in enumerate(wanted):
                    values = {column: _finite(scores[place]) for column, scores in scored.items()}
                    counts["failed"] += None in values.values()
                    rows.append({"prompt_id": name, "sample": k, "prompt": text, "response": made[place], **values})
                _append(path, rows)
                counts["made"] += len(rows)
                done += 1
                if report is not None:
                    report("sampling", done / len(missing))

            async def tried(given: tuple[str, str, list[int]]) -> None:
                try:
                    await one(*given)
                except DiscretionError as error:
                    problems.append(error)

            await asyncio.gather(*(tried(given) for given in missing))
        if problems:
            raise problems[0]

    if missing:
        to_the_end(lambda: asyncio.run(run()))
    return counts


def _known(path: Path) -> dict[str, set[int]]:
    """Return the samples that a pool has, by prompt; a last line that was cut short is taken away."""
    found: dict[str, set[int]] = {}
    if not path.exists():
        return found
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    for row, line in enumerate(data[:whole].splitlines(), 1):
        try:
            given: dict[str, Any] = json.loads(line)
            found.setdefault(str(given["prompt_id"]), set()).add(int(given["sample"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ReadError("is no row of a pool.", expected="prompt_id and sample", path=path, row=row) from error
    if whole < len(data):
        os.truncate(path, whole)
    return found


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise JudgeError(f"the pool {path} cannot be written: {error.strerror or error}.") from error


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
