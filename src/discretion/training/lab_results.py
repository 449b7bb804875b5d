"""What came of a laboratory: figures by seed, and their means with intervals over seeds.

Seeds are few and stations share them, so that differences are taken within a seed first (Student's t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from discretion.errors import DataError, shown
from discretion.metrics.resampling import LEVEL

READINGS = ("choices", "written", "validation")
"""Where a figure was measured: in a model's choices, in what it writes, in the choices that weights are chosen by."""

CHOSEN = "DPO + loss by validation"
"""The station that stands for the discretion loss: nobody chose it by what is reported."""

_SLACK = 0.01  # accuracy on validation that a discretion loss may cost to be chosen


@dataclass(frozen=True)
class Laboratory:
    """Figures of stations.

    Parameters
    ----------
    frame : DataFrame
        seed, station, model, kind, weight, hierarchy, reading, figure, value (NaN: undefined).
    rates : DataFrame
        seed, station, priority, rate: the share of a policy's texts that have the property of the principle with this
        planted priority, in logits.
    settings : dict
        As JSON.
    """

    frame: pl.DataFrame
    rates: pl.DataFrame
    settings: dict[str, Any]

    @classmethod
    def of(cls, found: Mapping[tuple[int, str], Mapping[str, Any]], settings: dict[str, Any]) -> Laboratory:
        """Return the results of measured stations, by seed and name; each knows its seed's planted "priorities"."""
        rows: list[tuple[Any, ...]] = []
        rates: list[tuple[Any, ...]] = []
        for (seed, name), measured in found.items():
            about = measured["station"]
            for reading in READINGS:
                for figure, value in measured.get(reading, {}).items():
                    if figure == "rates":
                        rates += [(seed, name, *both) for both in zip(measured["priorities"], value, strict=True)]
                    else:
                        number = math.nan if value is None else float(value)
                        head = (seed, name, about["model"], about["kind"], about["weight"], about["hierarchy"])
                        rows.append((*head, reading, figure, number))
        schema = {
            "seed": pl.Int64, "station": pl.String, "model": pl.String, "kind": pl.String, "weight": pl.Float64,
            "hierarchy": pl.String, "reading": pl.String, "figure": pl.String, "value": pl.Float64,
        }  # fmt: skip
        places = {"seed": pl.Int64, "station": pl.String, "priority": pl.Float64, "rate": pl.Float64}
        return cls(pl.DataFrame(rows, schema, orient="row"), pl.DataFrame(rates, places, orient="row"), dict(settings))

    @property
    def stations(self) -> list[str]:
        """Names in the order of the run."""
        return self.frame["station"].unique(maintain_order=True).to_list()

    def values(self, station: str, figure: str, reading: str = "choices") -> dict[int, float]:
        """Return a figure by seed."""
        part = self.frame.filter(
            (pl.col("station") == station) & (pl.col("figure") == figure) & (pl.col("reading") == reading)
        )
        return dict(zip(part["seed"].to_list(), part["value"].to_list(), strict=True))

    def summary(self, against: str) -> pl.DataFrame:
        """Return means over seeds, and how they differ from one station's within seeds.

        Parameters
        ----------
        against : str
            A station.

        Returns
        -------
        DataFrame
            station, model, reading, figure; mean, low, high, seeds; difference, difference_low, difference_high,
            pairs. Intervals are 95 %, Student's t; NaN from fewer than two seeds.

        Raises
        ------
        DataError
            There is no such station.
        """
        if against not in self.stations:
            raise DataError(f"there is no station {shown(against)}.", expected=", ".join(self.stations))
        rows = []
        keys = ["station", "model", "reading", "figure"]
        for (station, model, reading, figure), part in self.frame.group_by(keys, maintain_order=True):
            plain = self.values(against, str(figure), str(reading))
            own = dict(zip(part["seed"].to_list(), part["value"].to_list(), strict=True))
            mean = over_seeds([own[seed] for seed in own])
            apart = over_seeds([own[seed] - plain[seed] for seed in own if seed in plain])
            rows.append((station, model, reading, figure, *mean, *apart))
        columns = ["mean", "low", "high", "seeds", "difference", "difference_low", "difference_high", "pairs"]
        kinds: list[Any] = [pl.String] * 4 + ([pl.Float64] * 3 + [pl.Int64]) * 2
        return pl.DataFrame(rows, dict(zip([*keys, *columns], kinds, strict=True)), orient="row")

    def chosen(self, against: str) -> Laboratory:
        """Return the results with stations whose loss was chosen by validation, in each seed: `CHOSEN`, and by kind.

        Of the policies with a discretion loss of people's hierarchy that cost no more than a hundredth of the
        accuracy of `against` on validation, the one whose supremacy diverges least from that of the labels there, and
        of equals the least weight. (Divergence has a rate for every pair of principles; discrepancy counts pairs in the
        wrong order, so few that chance would choose.) A seed without one is left out.
        """
        tried = self.frame.filter(
            (pl.col("kind") != "") & (pl.col("model") == "policy") & (pl.col("hierarchy") == "people")
        )
        accuracy = self.values(against, "accuracy", "validation")
        frames, rates = [self.frame], [self.rates]
        for kind in (*tried["kind"].unique(maintain_order=True), ""):
            name = f"DPO + {kind} by validation" if kind else CHOSEN
            for seed in tried["seed"].unique(maintain_order=True):
                here = (pl.col("seed") == seed) & ((pl.col("kind") == kind) if kind else pl.lit(True))
                part = tried.filter(here)
                figures = part.filter(pl.col("reading") == "validation").pivot(
                    on="figure", index=["station", "weight"], values="value"
                )
                if figures.is_empty() or seed not in accuracy:
                    continue
                fair = figures.filter(pl.col("accuracy") >= accuracy[seed] - _SLACK).drop_nans("divergence")
                if fair.is_empty():
                    continue
                best = fair.sort("divergence", "weight", maintain_order=True)["station"][0]
                as_chosen = pl.lit(name).alias("station")
                frames.append(part.filter(pl.col("station") == best).with_columns(as_chosen))
                of_best = (pl.col("station") == best) & (pl.col("seed") == seed)
                rates.append(self.rates.filter(of_best).with_columns(as_chosen))
        return Laboratory(pl.concat(frames), pl.concat(rates), self.settings)


def over_seeds(values: list[float]) -> tuple[float, float, float, int]:
    """Return the mean, its 95 % interval by Student's t, and how many defined values it rests on."""
    there = np.array([value for value in values if not math.isnan(value)])
    n = len(there)
    if not n:
        return math.nan, math.nan, math.nan, 0
    mean = float(there.mean())
    if n < 2:
        return mean, math.nan, math.nan, n
    import scipy.stats  # loads slowly, and only this needs it

    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1) * there.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half, n
