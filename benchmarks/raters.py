"""Five thousand raters with two hundred labels each, by crossed groups: one pass, beside an audit for each group.

Prints the seconds of the audit with its raters, of the flags (shrinkage and false discovery), of communities crossed
by two attributes (majorities, discrepancies with tests, agreement, weights), of groups by what raters prioritise, and
the ratio to auditing one community after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from discretion.audit import audit
from discretion.communities import communities
from discretion.deviants import deviants
from discretion.simulate import Raters, Voter, World

T = TypeVar("T")

RATERS, EACH, COMPARISONS, PRINCIPLES, REPLICATES = 5_000, 200, 20_000, 21, 500


def main() -> None:
    rng = np.random.default_rng(0)
    voters = tuple(Voter(name, rng.normal(0, 1, PRINCIPLES).tolist()) for name in ("city", "village"))
    people = Raters(RATERS, EACH, voters, (0.7, 0.3), deviant=0.02)
    world = World([f"p{k}" for k in range(PRINCIPLES)], active=0.2, together=0.8, raters=people)
    table = world.draw(COMPARISONS, 0).table
    ages = ("young", "middle", "old")
    named = [
        replace(a, about={**a.about, "age": ages[k % 3]}) if a.kind == "rater" else a
        for k, a in enumerate(table.annotators)
    ]
    table = replace(table, annotators=tuple(named))
    population = {"community": {"city": 0.5, "village": 0.5}}
    print(f"{RATERS:,} raters x {EACH} labels, {COMPARISONS:,} comparisons, {PRINCIPLES} principles")

    made, whole = timed("audit, with every rater's figures", lambda: audit(table, replicates=REPLICATES))
    _, flags = timed("flags of raters", lambda: deviants(made))
    crossed, groups = timed(
        "communities by two attributes, crossed",
        lambda: communities(made, ["community", "age"], population=population, clusters=False, replicates=REPLICATES),
    )
    print(f"{'together':45s} {whole + flags + groups:7.2f} s")
    timed("groups by what raters prioritise", lambda: communities(made, replicates=0))

    assert crossed.audit is not None
    majorities = crossed.audit.table

    def one_by_one() -> None:
        for name in majorities.annotator_names:
            audit(majorities.select_annotators([name]), replicates=REPLICATES, confidences=())

    _, apart = timed("reference: an audit for each community", one_by_one)
    print(f"one by one, without agreement, discrepancies and tests: {apart / groups:.1f} times as long")


def timed(what: str, run: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    print(f"{what:45s} {seconds:7.2f} s", flush=True)
    return found, seconds


if __name__ == "__main__":
    main()
