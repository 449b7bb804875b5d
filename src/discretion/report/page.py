"""The report: one HTML page from an audit, self-contained or served by the case explorer.

A file of its own carries its scripts and forbids all others by their hashes: nothing that stands in the data can run,
and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from discretion.audit import Audit
from discretion.baselines import length_votes
from discretion.cases.case import case
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.deviants import Deviants
from discretion.diagnosis import Diagnosis, diagnose
from discretion.document import _strict
from discretion.errors import SavedAuditError
from discretion.findings import Finding, findings, what_was_audited
from discretion.report import charts, people_charts, rankings, rows, tables
from discretion.report.look import asset, on_page
from discretion.report.methods import methods
from discretion.report.people import (
    agreement_table,
    flagged_table,
    granularity_rows,
    groups_table,
    overruled_tables,
    populations_table,
    raters_of,
    raters_rows,
    segments_of,
    segments_rows,
    segments_table,
)
from discretion.report.people_communities import (
    Parted,
    apart_rows,
    apart_table,
    drift_tables,
    parted,
    prioritised_table,
    ranks_table,
)
from discretion.report.tables import Table
from discretion.report.visible import pieces
from discretion.segments import Segments
from discretion.terminal import plain
from discretion.whole import write_whole


@dataclass(frozen=True)
class Figure:
    """A figure of the page: its words, its chart, its tables, and what can be chosen in it."""

    id: str
    title: str
    lead: str
    spec: dict[str, Any] | None
    data: str = ""
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    choose: list[str] = field(default_factory=list)
    controls: tuple[str, ...] = ()
    by: str = "Annotator"  # what is chosen


def _that_matter(audit: Audit) -> list[Finding]:
    """Return the four findings that every audit has, and a fifth only where a judge goes by position."""
    return [f for f in findings(audit, 5) if f.key != "length"]


_EXPOSE = "window.vegaEmbed = vegaEmbed;"


@cache
def vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, as vl-convert bundles them."""
    import vl_convert

    return str(vl_convert.javascript_bundle(_EXPOSE)).replace("</script", "<\\/script")


def page(audit: Audit, *, cases: int = 0, assets: str | None = None, links: str = "#cases?", source: str = "") -> str:
    """Return the report as HTML.

    Parameters
    ----------
    audit : Audit
    cases : int
        How many cases to embed, the most informative first.
    assets : str, optional
        Where a server has the scripts and the style sheet; by default they stand in the page.
    links : str
        What comes before a query in the links to cases.
    source : str
        Where the audit lies, for the command that opens the case explorer.

    Returns
    -------
    str
        The same audit gives the same page.
    """
    people = _People(
        raters_of(audit), parted(audit), segments_of(audit), diagnose(audit, seed=audit.settings.seed)
    )  # fmt: skip
    drawn = _figures(audit) + _figures_of_people(audit, people)
    embedded = _embedded(audit, cases)
    payload = _payload(audit, drawn, links, embedded, source)
    payload["data"] |= _rows_of_people(audit, people)
    scripts = [] if assets is not None else [vega(), asset("report.js")]
    style = asset("style.css") + asset("report.css")
    template = environment().get_template("report.html")
    return template.render(
        audit=audit,
        what=what_was_audited(audit),
        findings=_that_matter(audit),
        figures=drawn,
        symptoms=people.diagnosis.symptoms,
        overruled=_overruled(people.diagnosis),
        methods=methods(audit),
        cases=embedded,
        links=links,
        assets=assets,
        source=source,
        # These three are this package's own texts, or JSON in which no tag can stand.
        payload=Markup(json_text(payload)),
        scripts=[Markup(script) for script in scripts],
        style=Markup(style),
        policy=None if assets is not None else policy_of(scripts, style),
    )


def write(audit: Audit, path: str | Path, *, cases: int = 0, source: str = "") -> Path:
    """Write the report to a file, whole or not at all.

    Raises
    ------
    SavedAuditError
        The file cannot be written.
    """
    text = page(audit, cases=cases, source=source)
    return write_whole(
        Path(path), lambda part: part.write_text(text, encoding="utf-8", errors="replace"), SavedAuditError
    )


@cache
def environment() -> jinja2.Environment:
    """Return the templates: everything is escaped, and a name that is not there is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("discretion.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["pieces"] = pieces
    made.filters["plain"] = plain
    made.filters["address"] = lambda query: Query(**query).address()
    return made


def _figures(audit: Audit) -> list[Figure]:
    names = rows.annotators(audit)
    states = charts.states("states", on_page).to_dict()
    found = [
        Figure(
            "states", "Where the principles agree, clash, or are silent",
            "Consensus: every principle that prefers a response prefers the same one. Conflict: two of them differ. "
            "Indifference: none prefers either, and whoever decides does so without guidance.",
            states, "states", [tables.states(audit)],
        )
    ]  # fmt: skip
    if not names:
        return found
    reference = names[0]
    order = rows.ranked_principles(audit, reference)
    shown = set(rows.shown_principles(audit))
    vocal = rows.plain_names(rows.most_vocal_first(audit, reference))
    left = rows.plain_names(rows.slot_names(rows.priority_rows(audit)))
    found += [
        Figure(
            "responses", "How each principle votes, and who goes with it",
            "Blue from the left: the annotator agrees with the principle; orange from the right: it disagrees. "
            "The most outspoken principle stands on top.",
            charts.responses("responses", on_page, sort=vocal).to_dict(), "responses",
            [tables.responses(audit, n) for n in names], choose=names,
        ),
        Figure(
            "arbitrariness", "How often each annotator goes against a consensus",
            "Where the principles agree, deciding otherwise is arbitrary. It may be noise, a principle that the "
            "constitution lacks, or a misread one: the cases show which.",
            charts.arbitrariness("arbitrariness", on_page, sort=names).to_dict(), "arbitrariness",
            [tables.arbitrariness(audit)],
        ),
        Figure(
            "supremacy", "Which principle wins when two clash",
            "Each cell counts the conflicts between the principle of its row and that of its column, and how often "
            "the row was followed. Blue: the row wins, orange: the column. Strong colour: the interval leaves "
            "out one half. Empty: they never clash.",
            rankings.supremacy("supremacy", on_page, annotator="the annotator").to_dict(), "supremacy",
            [tables.supremacy(audit, n) for n in names], choose=names, controls=("order",),
            notes=_left_out(audit),
        ),
        Figure(
            "priority", "How each annotator ranks the principles",
            "First the principle that wins most. Lines join the same principle; those in colour move most, with the "
            "95 % interval of their ranks. Choose one to follow it.",
            rankings.priority("priority", on_page, names=rows.plain_names(names), left=left).to_dict(),
            "priority", [tables.priority(audit)], controls=("chosen",),
        ),
        Figure(
            "intervals", "How sure these ranks are",
            "Each bar is the 95 % interval of a rank over resampled comparisons. Where bars overlap, the order of the "
            "two principles is open.",
            rankings.intervals("priority", on_page, names=rows.plain_names(names),
                               sort=rows.plain_names([p for p in order if p in shown])).to_dict(),
            "priority",
        ),
        Figure(
            "discrepancy", "How far two annotators' rankings lie apart",
            "The share of pairs of principles that two annotators order differently. On the diagonal stands the noise "
            "floor: how far an annotator's ranking lies from itself on random halves of its own data. A frame marks "
            "what differs beyond chance (q < 0.05).",
            rankings.discrepancy("discrepancy", on_page, names=rows.plain_names(names)).to_dict(), "discrepancy",
            [tables.discrepancy(audit)],
        ),
    ]  # fmt: skip
    return found


@dataclass(frozen=True)
class _People:
    raters: Deviants | None
    parted: Parted
    segments: dict[str, Segments]
    diagnosis: Diagnosis


def _overruled(found: Diagnosis) -> list[Table]:
    """Return the cases that are overruled together, where that is a symptom."""
    told = any(symptom.key == "missing principle" for symptom in found.symptoms)
    return overruled_tables(found.overruled) if told else []


def _figures_of_people(audit: Audit, people: _People) -> list[Figure]:
    """Return who decides: raters held against each other, segments against the rest; where there are any."""
    found = []
    if people.raters is not None:
        found.append(
            Figure(
                "raters", "Which raters deviate",
                "Each point is a rater: to the right those of whom much is known, above those who often go against a "
                "consensus. The dashed line is what raters have in common. Triangles deviate beyond chance, all raters "
                "looked at together.",
                people_charts.raters("raters", on_page, mean=people_charts.population_mean(people.raters)).to_dict(),
                "raters",
                [
                    populations_table(people.raters), flagged_table(people.raters), agreement_table(audit),
                    *_more_of_raters(audit, people.parted),
                ],
            )
        )  # fmt: skip
    if people.parted.by:
        by = people.parted.by
        most = max(apart_rows(c).height for c in by.values())
        found.append(
            Figure(
                "communities", "Whether communities rank otherwise",
                "How far the rankings of two communities of raters lie apart, by what is known of the raters. The tick "
                "is the noise floor: how far a ranking lies from itself on random halves. Triangles: beyond chance, "
                "all pairs looked at together.",
                people_charts.communities("communities", on_page, most=most).to_dict(), "communities",
                [*map(apart_table, by.values()), *map(ranks_table, by.values())], choose=list(by), by="By",
            )
        )  # fmt: skip
    if people.segments:
        names, filters = list(people.segments), Cases(audit).filters
        most = max(s.frame["segment"].n_unique() for s in people.segments.values())
        found.append(
            Figure(
                "segments", "Where it is otherwise",
                "The agreement of the principles, and how often the reference goes against it, by what is known of the "
                "cases. Filled: unlike all other cases, beyond chance.",
                people_charts.segments("segments", on_page, most=most).to_dict(), "segments",
                [segments_table(s, filters) for s in people.segments.values()], choose=names, by="By",
            )
        )  # fmt: skip
    if len(audit.table.constitution) > 2:
        found.append(
            Figure(
                "granularity", "How much hangs on the list of principles",
                "Lines: the most alike principles are merged step by step, and a merged one votes by its majority. "
                "Bands: principles are dropped at random, the middle 90 % of the draws. A figure that moves says as "
                "much of the list as of the annotators.",
                people_charts.granularity("granularity", on_page).to_dict(), "granularity",
                [groups_table(people.diagnosis.granularity)],
            )
        )  # fmt: skip
    return found


def _more_of_raters(audit: Audit, found: Parted) -> list[Table]:
    grouped = [] if found.groups is None else [prioritised_table(found.groups, audit.table.constitution.names)]
    return grouped + ([] if found.drift is None else drift_tables(found.drift))


def _rows_of_people(audit: Audit, people: _People) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if people.raters is not None:
        found["raters"] = {"": columns_of(raters_rows(people.raters))}
    if people.parted.by:
        found["communities"] = {name: columns_of(apart_rows(c)) for name, c in people.parted.by.items()}
    if people.segments:
        filters = Cases(audit).filters
        found["segments"] = {name: columns_of(segments_rows(s, filters)) for name, s in people.segments.items()}
    if len(audit.table.constitution) > 2:
        found["granularity"] = {"": columns_of(granularity_rows(audit, people.diagnosis.granularity))}
    return found


def _left_out(audit: Audit) -> list[str]:
    total, kept = len(audit.table.constitution), len(rows.shown_principles(audit))
    more = len(audit.annotators) - len(rows.annotators(audit))
    found = []
    if kept < total:
        found.append(f"The figures of rankings show the {kept} principles of {total} that are in most conflicts.")
    if more:
        found.append(f"The figures show {rows.MOST_ANNOTATORS} annotators; {more} more are in the audit's frames.")
    return found


_QUERY_FIELDS = ("state", "principle", "over", "annotator", "other", "side")


def _payload(
    audit: Audit, drawn: list[Figure], links: str, embedded: list[dict[str, Any]], source: str
) -> dict[str, Any]:
    """Return what the page's script needs: charts, rows by name and annotator, and the votes of embedded cases."""
    names = rows.annotators(audit)
    responses = rows.responses_rows(audit)
    data: dict[str, Any] = {"states": {"": rows.states_rows(audit)}}
    if names:
        data |= {
            "responses": {n: responses.filter(pl.col("annotator") == n) for n in names},
            "arbitrariness": {"": rows.arbitrariness_rows(audit)},
            "supremacy": {n: rows.supremacy_rows(audit, n) for n in names},
            "priority": {"": rows.priority_rows(audit)},
            "discrepancy": {"": rows.discrepancy_rows(audit)},
        }
    raw = {plain(n): n for n in (*audit.table.constitution.names, *names) if plain(n) != n}
    principles = rows.ranked_principles(audit, names[0]) if names else []
    shown = set(rows.shown_principles(audit))
    return {
        "links": links,
        "source": source,
        "figures": {
            f.id: {"spec": f.spec, "data": f.data, "choose": f.choose, "controls": f.controls}
            for f in drawn
        },
        "data": {name: {key: columns_of(frame) for key, frame in by.items()} for name, by in data.items()},
        "raw": raw,
        "principles": rows.plain_names([p for p in principles if p in shown]),
        "cells": len(shown),
        "annotators": len(names),
        "fields": _QUERY_FIELDS,
        "cases": [c["votes"] for c in embedded],
        "total": len(audit.table),
    }  # fmt: skip


def columns_of(frame: pl.DataFrame) -> dict[str, Any]:
    """Return a frame column by column, names as charts show them, numbers with the digits that one can see."""
    found: dict[str, Any] = {}
    for series in frame.get_columns():
        if series.dtype == pl.String:
            values: list[Any] = [None if v is None else plain(v) for v in series.to_list()]
        elif series.dtype.is_float():
            values = series.round(5).fill_nan(None).to_list()
        else:
            values = series.to_list()
        # A column of one value is written once.
        found[series.name] = values[0] if len(values) > 1 and len(set(values)) == 1 else values
    return {"length": frame.height, "columns": found}


def _embedded(audit: Audit, most: int) -> list[dict[str, Any]]:
    if most <= 0:
        return []
    index = Cases(audit)
    chosen = index.find(Query())[:most]
    longer = length_votes(audit.table)
    found = []
    for number, row in enumerate(chosen):
        votes = {
            "state": int(index.state[row]), "voting": int(index.voting[row]), "direction": int(index.direction[row]),
            "overruled": bool(index.overruled_together[row]),
            "x": dict(zip(audit.table.constitution.names, index.table.X[row].tolist(), strict=True)),
            "y": {n: int(index.labels(n)[row]) for n in index.annotators},
            "longer": 0 if longer is None else int(longer[row]), "is": index.attributes_of(int(row)),
        }  # fmt: skip
        found.append({"number": number, "case": case(index, int(row)), "votes": votes})
    return found


def json_text(payload: dict[str, Any]) -> str:
    """Write data for a script element: strict JSON in which no tag and no line end of JavaScript can stand."""
    text = json.dumps(_strict(payload), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def policy_of(scripts: list[str], style: str) -> str:
    """Return the content-security policy of a file of its own: its own scripts and styles, and nothing else."""

    def hashed(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(hashed, scripts))}; style-src {hashed(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
