"""A tuned pool as one JSON document, for machines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from discretion.document import dumps, records
from discretion.errors import DataError
from discretion.hedge.discretion import Along
from discretion.hedge.tune import Family, Tuned
from discretion.hedge.verdict import verdict
from discretion.whole import write_whole


def document(tuned: Tuned, name: str, proxy: str, true: str, along: Along | None = None) -> dict[str, Any]:
    """Return what was found, figure by figure.

    Parameters
    ----------
    tuned : Tuned
    name, proxy, true : str
        What the pool, the proxy and the true reward are called.
    along : Along, optional
        The discretion of what is selected.
    """
    said = verdict(tuned, proxy)
    found: dict[str, Any] = {
        "name": name, "proxy": proxy, "true": true, "verdict": asdict(said), "prompts": tuned.prompts,
        "candidates": tuned.candidates, "largest": tuned.largest, "hacked": tuned.hacked, "lose": asdict(tuned.lose),
        "lose_against_best": asdict(tuned.lose_star), "losers": tuned.losers.tolist(),
        "families": [_family(f) for f in tuned.families],
        "alternatives": [asdict(a) for a in tuned.alternatives], "settings": dict(tuned.settings),
    }  # fmt: skip
    if along is not None:
        found["discretion"] = {
            "principles": list(along.principles), "reference": along.reference, "best": along.best,
            "interval": {k: list(v) for k, v in along.interval.items()}, "figures": records(along.frame),
        }  # fmt: skip
    return found


def _family(family: Family) -> dict[str, Any]:
    curve = family.curve
    columns = {
        "parameter": family.parameter, "reward": curve.value, "se": curve.se, "low": curve.low, "high": curve.high,
        "band_low": curve.band_low, "band_high": curve.band_high, "quantile": family.mean, "kl": family.kl,
        "draws": family.draws,
    }  # fmt: skip
    return {
        "name": family.name, "n": family.n, "best": asdict(family.theta), "determined": family.determined,
        "regime": family.regime, "turns": [asdict(t) for t in family.turns], "gain": asdict(family.gain),
        "drop": asdict(family.drop), "beyond": family.beyond, "curve": {k: v.tolist() for k, v in columns.items()},
    }  # fmt: skip


def write_document(path: Path, made: dict[str, Any]) -> None:
    """Write a document to a file, whole or not at all.

    Raises
    ------
    DataError
        It cannot be written.
    """
    write_whole(path, lambda part: part.write_text(dumps(made) + "\n", "ascii"), DataError)
