"""The terminal: nothing from data does anything to it, and what is printed fits and is a figure or a dash."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from discretion.audit import Audit, audit
from discretion.comparison import Comparisons
from discretion.constitution import Constitution, Principle
from discretion.diff import Gate, diff
from discretion.influence import influence
from discretion.saved import save
from discretion.table import Annotator, Exclusion, PreferenceTable
from discretion.terminal import interval, percent, plain, probability, show
from discretion.terminal_results import show_diff, show_influence
from discretion.vote import MISSING

from .studies import command, votes_table, write_study

HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "clear": "\x1b[2J\x1b[H gone",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "title": "\x1b]0;owned\x07",
    "eight-bit": "\x9b31mred\x9d0;x\x9c",
    "bell": "ding\x07\x07",
    "backspace": "safe\x08\x08\x08\x08evil",
    "return": "honest\rlying \r\n next",
    "lines": "a\nb\x0bc\x0cd\x85e\u2028f\u2029g",
    "override": "abc\u202efed\u202c",
    "isolate": "x\u2066y\u2067z\u2069 \u200e\u200f\u061c",
    "nothing": "a\u200bb\u200cc\u2060d\ufeffe\u00adf",
    "tags": "flag\U000e0041\U000e0042",
    "markup": "[red]loud[/red] [link=http://evil.example]here[/link] [/]",
    "markdown": "**bold** `code` <script>",
    "null": "a\x00b\x7f",
    "private": "\ue000\U000f0000 \uffff",
    "long": "very long name " * 40,
    "one word": "x" * 500,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🇺🇳" * 12,
    "wide": "日本語の名前" * 20,
    "combining": "e" + "\u0301" * 30,
}
FORBIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
SGR = re.compile(r"\x1b\[[0-9;]*m")


def harmless(text: str, *, colour: bool) -> None:
    """Fail if a text holds a control character that rich did not put there, or a line too long."""
    bare = SGR.sub("", text) if colour else text
    for character in bare:
        assert character in "\n\u200d" or unicodedata.category(character) not in FORBIDDEN, ascii(character)
    for line in bare.split("\n"):
        assert cell_len(line) <= 80, line


def rendered(colour: bool, printing) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=80, highlight=False, force_terminal=colour, color_system="truecolor" if colour else None
    )
    printing(console)
    return stream.getvalue()


def hostile_audit(text: str, **options) -> Audit:
    """An audit in which everything that a file can name is hostile."""
    table = votes_table(60)
    names = [f"{text}{k}" for k in range(6)]
    rows = np.arange(40, dtype=np.int32)
    raters = [
        Annotator(f"{text} r{k}", np.resize(table.X[:40, k], 40).astype(np.int8), rows, "rater") for k in range(2)
    ]
    clean = Constitution(tuple(Principle(f"{text} p{c}", f"wording {text} {c}") for c in range(4)), text)
    table = PreferenceTable(
        ids=pl.Series("id", [f"{text}{k}" for k in range(60)]),
        constitution=clean,
        X=table.X,
        annotators=(
            *(Annotator(n, np.resize(table.annotators[k % 2].values, 60), source=text) for k, n in enumerate(names)),
            *raters,
        ),
        attributes=table.attributes.rename({"topic": "topic"}),
        exclusions=(Exclusion(text, text, 3, (text, text)),),
    )
    texts = pl.DataFrame({"id": table.ids, "prompt": [text] * 60, "first": [text] * 60, "second": [text] * 60})
    return audit(
        table, replicates=10, swaps=5, splits=2, reference=names[0], name=text, warnings=[text],
        comparisons=Comparisons(texts, text), **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_data_do_nothing(kind: str) -> None:
    text = HOSTILE[kind]
    one = hostile_audit(text)
    turned = replace(one.table, annotators=tuple(replace(a, values=-a.values) for a in one.table.annotators))
    other = replace(one, table=turned, name=f"{text} later")
    compared = diff(one, other, replicates=30)
    compared = replace(compared, warnings=(text,))
    gates = compared.failures([Gate("arbitrariness")])
    assert gates.height
    strongest = influence(one.table, annotator=f"{text}1")
    for colour in (False, True):
        for printing in (
            lambda console: show(one, console),
            lambda console: show_diff(compared, gates, True, console),
            lambda console: show_influence(strongest, one.comparisons, console),
        ):
            out = rendered(colour, printing)
            assert len(out) > 200
            harmless(out, colour=colour)
            assert "evil.example\x1b" not in out
            if kind == "markup":
                assert "[red]loud" in SGR.sub("", out)  # as it stands, neither obeyed nor lost


def test_the_check_of_harmlessness_can_fail() -> None:
    for text in ("\x1b[2J", "\x07", "\u202e", "\x9b31m", "\r", "x" * 81, "日" * 41):
        with pytest.raises(AssertionError):
            harmless(text, colour=True)


@given(st.text(st.characters()), st.integers(0, 30))
def test_plain_is_one_printable_line(text: str, limit: int) -> None:
    line = plain(text, limit)
    for character in line:
        assert character == "\u200d" or unicodedata.category(character) not in FORBIDDEN
    assert len(line) <= max(limit, 1) if limit else len(line) == len(text)
    assert plain(line, limit) == line
    line.encode()


@given(st.text(st.characters(categories=("L", "N", "P", "S", "M", "Zs"))))
def test_plain_keeps_what_is_printable(text: str) -> None:
    assert plain(text) == text


def test_plain_shows_that_something_stood_there() -> None:
    assert plain("a\x1b[31mb\u202ec\ud800") == "a\ufffd[31mb\ufffdc\ufffd"
    assert plain("a\nb\tc\rd") == "a b c d"
    assert plain("abcdef", 4) == "abc…"
    assert plain("👩‍👧") == "👩‍👧"


def test_figures_in_words() -> None:
    nan = math.nan
    assert (percent(nan), probability(nan), interval(nan, 0.5), interval(0.1, nan)) == ("–", "–", "–", "–")
    assert (percent(0.1234), percent(0.1234, 0), interval(0.1, 0.25)) == ("12.3", "12", "10.0–25.0")
    assert (probability(0.0004), probability(0.05), probability(0.5)) == ("<0.001", "0.050", "0.50")


UNDEFINED = re.compile(r"(?<![A-Za-z])(nan|inf)(?![A-Za-z])", re.IGNORECASE)


@cache
def undefined_audits() -> dict[str, Audit]:
    X = np.array([[1, -1, 0], [1, -1, 0], [1, 0, 0], [1, -1, MISSING]] * 4, np.int8)
    n = len(X)
    options = {"replicates": 10, "swaps": 3, "splits": 2}
    one_sided = PreferenceTable.from_arrays(X, {"a": np.ones(n), "b": np.where(np.arange(n) % 2, 1, -1)})
    silent = PreferenceTable.from_arrays(X, {"a": np.ones(n), "b": [None] * n, "c": np.zeros(n)})
    calm = PreferenceTable.from_arrays(np.abs(X), {"a": np.ones(n), "b": -np.ones(n)})
    indifferent = PreferenceTable.from_arrays(np.zeros((6, 2)), {"a": np.ones(6), "b": -np.ones(6)})
    return {
        "one-sided": audit(one_sided, **options),
        "silent": audit(silent, **options),
        "silent reference": audit(silent, reference="b", **options),
        "no conflict": audit(calm, **options),
        "all indifferent": audit(indifferent, **options),
        "single": audit(one_sided.subset([0]), **options),
        "no replicates": audit(one_sided, replicates=0),
        "one cluster": audit(replace(one_sided, attributes=pl.DataFrame({"g": ["x"] * n})), cluster="g", **options),
    }


@pytest.mark.parametrize(
    "kind",
    ["one-sided", "silent", "silent reference", "no conflict", "all indifferent", "single", "no replicates",
     "one cluster"],
)  # fmt: skip
def test_undefined_figures_are_dashes(kind: str) -> None:
    made = undefined_audits()[kind]
    turned = [
        replace(a, values=np.where(a.values == MISSING, a.values, -a.values).astype(np.int8))
        for a in made.table.annotators
    ]
    other = audit(replace(made.table, annotators=tuple(turned)), replicates=0, cluster=made.settings.cluster)
    compared = diff(made, other, replicates=10)
    outputs = [
        rendered(False, lambda console: show(made, console)),
        rendered(False, lambda console: show_diff(compared, compared.failures([]), False, console)),
    ]
    for figure in ("arbitrariness", "discrepancy", "priority"):
        name = made.annotators[-1]
        frame = influence(made.table, annotator=name, figure=figure, reference=made.annotators[0])
        outputs.append(rendered(False, lambda console, frame=frame: show_influence(frame, None, console)))
    for out in outputs:
        assert not UNDEFINED.search(out), out
        harmless(out, colour=False)
    if kind == "all indifferent":
        assert "–" in outputs[0]


def test_an_infinite_influence_is_printed_as_such() -> None:
    table = PreferenceTable.from_arrays(np.array([[1, -1]] * 5), {"model": [1, 1, 1, 1, -1]}, ids=list("abcde"))
    frame = influence(table, annotator="model", figure="priority")
    out = rendered(False, lambda console: show_influence(frame, None, console))
    assert "∞" in out
    assert not UNDEFINED.search(out)


def test_a_priority_that_became_infinite_is_printed_as_such() -> None:
    X = np.array([[1, -1]] * 40, np.int8)
    y = np.where(np.arange(40) % 3 == 0, -1, 1)
    one, other = (audit(PreferenceTable.from_arrays(X, {"model": v}), replicates=0) for v in (y, np.ones(40, np.int8)))
    compared = diff(one, other, replicates=50)
    assert compared.frame.filter(pl.col("figure") == "priority")["after"].is_infinite().any()
    out = rendered(False, lambda console: show_diff(compared, compared.failures([]), False, console))
    assert not UNDEFINED.search(out)


ERRORS = ["\x1b[31mred\x1b]52;c;cm0=\x07", "\u202eabc\x9b31mb"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ERRORS)
def test_messages_of_hostile_files_are_clean(text: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / f"s{text}", votes_table(20))
    out = tmp_path / f"out{text}"
    good = command("audit", folder, "--out", out, "--replicates", 3)
    assert good.returncode == 0
    harmless(good.stdout.decode(), colour=False)
    assert not set(good.stderr.decode()) & set("\x1b\x07\x9b\u202e")  # "Saved in …"
    model = folder / "annotators" / "model.csv"
    model.write_text(model.read_text().replace("c3,", f"c3,{text}"))
    for done in (
        command("audit", folder, "--out", out, "--replicates", 3),
        command("audit", folder, "--annotator", f"{text}=absent"),
        command("show", tmp_path / f"absent{text}"),
        command("influence", out, "--annotator", text),
        command("influence", out, "--annotator", "model", "--out", f"x{text}"),
        command(text),
    ):
        assert done.returncode in (1, 2)
        assert done.stderr
        assert not set(done.stderr.decode()) & set("\x1b\x07\x9b\u202e"), done.stderr


@pytest.mark.slow
def test_hostile_names_in_the_next_steps_are_clean(tmp_path: Path) -> None:
    made = hostile_audit(HOSTILE["clipboard"])
    save(made, tmp_path / "a")
    shown = command("show", tmp_path / "a")
    assert shown.returncode == 0
    harmless(shown.stdout.decode(), colour=False)
    study = write_study(tmp_path / "s", votes_table(20))
    name = "\x1b]52;c;cm0\x07"
    values = study / "annotators" / "model.csv"
    done = command(
        "audit", study, "--annotator", f"{name}={values}", "--reference", name, "--replicates", 3, cwd=tmp_path
    )
    assert done.returncode == 0
    assert b"influence" in done.stderr
    assert b"\x1b" not in done.stderr + done.stdout
    assert b"\x07" not in done.stderr + done.stdout
