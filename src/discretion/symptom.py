"""A symptom: one way in which discretion fails, with its evidence and what to do about it, in plain words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Symptom:
    """One way in which discretion fails here. Every text is plain: whatever displays it has to escape it.

    Parameters
    ----------
    key : str
        "silence", "arbitrariness", "missing principle", "hacking", "redundant", "conflicting" or "granularity".
    title, figure : str
        The symptom in a short sentence, and its number.
    evidence, uncertainty, advice : str
        A sentence or two each.
    query : dict of str
        Which cases to read.
    names : tuple of str
        The principles or annotators that it is about.
    """

    key: str
    title: str
    figure: str
    evidence: str
    uncertainty: str
    advice: str
    query: dict[str, str]
    names: tuple[str, ...] = ()
