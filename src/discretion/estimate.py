"""What a plan may cost: tokens by the length of prompts, the share that a prefix cache serves, dollars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from discretion.collect import Plan

_CHARACTERS_A_TOKEN = 4.0  # of English prose; a judge's own counts replace the guess once it has answered
_SAMPLE = 200  # comparisons whose prompts are measured
_ANSWER_TOKENS = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be asked, and what it may take.

    Parameters
    ----------
    calls : int
    tokens_in, tokens_out : float
        Estimated from the length of the prompts; NaN where a judge has no prompts.
    shared : float
        The share of `tokens_in` that questions of one comparison have in common, from 0 to 1: what a prefix cache
        may serve.
    cost : float
        US dollars without any cache; NaN without prices.
    cached_cost : float
        The same with the shared tokens at their cached price.
    """

    calls: int
    tokens_in: float = math.nan
    tokens_out: float = math.nan
    shared: float = math.nan
    cost: float = math.nan
    cached_cost: float = math.nan


def estimate(planned: Plan, prices: Mapping[str, float] | None = None) -> Estimate:
    """Estimate what a plan may take.

    Parameters
    ----------
    planned : Plan
    prices : mapping, optional
        US dollars a million tokens: "in", "out", and perhaps "cached".

    Returns
    -------
    Estimate
    """
    template = getattr(planned.judge, "template", None)
    secret = getattr(planned.judge, "secret", b"")
    if template is None or not planned.missing:
        return Estimate(planned.missing)
    from discretion.judges.prompt import joint_messages, messages, prefix_length

    characters = common = asks = calls = 0
    for block in islice(planned.blocks(), _SAMPLE):
        joint = template.form == "joint"
        groups = (
            [[a for a in block.asks if a.order == order] for order in sorted({a.order for a in block.asks})]
            if joint
            else [[a] for a in block.asks]
        )
        last: dict[int, list[dict[str, str]]] = {}
        for group in groups:
            made = (
                joint_messages(template, block, group, secret)[0]
                if joint
                else messages(template, block, group[0], secret)
            )
            characters += sum(len(m["content"]) for m in made)
            before = last.get(group[0].order)
            common += prefix_length(before, made) if before is not None else 0
            last[group[0].order] = made
            calls += 1
            asks += len(group)
    scale = planned.missing / max(asks, 1)
    found = Estimate(
        calls=round(calls * scale),
        tokens_in=characters * scale / _CHARACTERS_A_TOKEN,
        tokens_out=float(planned.missing * _ANSWER_TOKENS),
        shared=common / max(characters, 1),
    )
    if not prices or "in" not in prices:
        return found
    price_in, price_out = prices["in"] / 1e6, prices.get("out", 0.0) / 1e6
    cached = prices.get("cached", prices["in"]) / 1e6
    whole = found.tokens_in * price_in + found.tokens_out * price_out
    less = found.tokens_in * found.shared * (price_in - cached)
    return replace(found, cost=whole, cached_cost=whole - less)
