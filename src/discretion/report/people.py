"""Who decides, as rows and tables: raters, segments, and what the granularity of the principles does."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.cases.query import Query
from discretion.communities import ALL, alpha_of, known_of
from discretion.deviants import Deviants, deviants
from discretion.granularity import Granularity
from discretion.metrics.counts import STATES
from discretion.metrics.reliability import value_counts
from discretion.overruled import Overruled
from discretion.rater_labels import ARBITRARINESS, MEASURES, SIDES, RaterLabels
from discretion.report.tables import Cell, Table
from discretion.segments import Segments, choices, segments
from discretion.terminal import interval, percent, plain, probability
from discretion.vote import MISSING

MOST_ATTRIBUTES = 4
_MOST_SEGMENTS = 16
_BY_SIDE = ("length_first", "length_second")  # what either response is, which both together say better
_LEAST = 20
_FLAGGED = 30
_MOST_GROUPS = 12


def raters_of(audit: Audit) -> Deviants | None:
    """Hold an audit's raters against each other; None where it has none."""
    return deviants(audit) if audit.raters.height else None


def segments_of(audit: Audit) -> dict[str, Segments]:
    """Return the segments by each attribute that makes a few of them, of which two are large; four at the most."""
    found: dict[str, Segments] = {}
    for name, cut in choices(audit, _LEAST).items():
        sizes = np.bincount(cut.codes, minlength=len(cut.names))
        few = 2 <= len(cut.names) <= _MOST_SEGMENTS and (sizes >= _LEAST).sum() >= 2
        if not few or name in (audit.settings.cluster, *_BY_SIDE):
            continue
        # Resampling is for rankings alone, which the report gives of the whole.
        found[name] = segments(audit, [name], least=_LEAST, replicates=0, seed=audit.settings.seed)
        if len(found) == MOST_ATTRIBUTES:
            break
    return found


def raters_rows(found: Deviants) -> pl.DataFrame:
    """Return a row a rater who decided in a consensus: the rate, how it stands to others', and its query."""
    frame = found.frame.filter((pl.col("measure") == ARBITRARINESS) & (pl.col("n") > 0))
    names = {"above": "more often", "below": "less often", "": "as the others"}
    return frame.select(
        pl.col("rater").alias("annotator"), pl.col("rate").alias("estimate"),
        "count", "n", "shrunk", "low", "high", "q",
        flag=pl.col("flag").replace_strict(names, return_dtype=pl.String),
        state=pl.lit("consensus"), side=pl.lit("against-consensus"),
    )  # fmt: skip


def populations_table(found: Deviants) -> Table:
    """Return what raters have in common, and how many are flagged."""
    table = Table(
        "What raters have in common",
        ["measure", "mean, %", "sd, %", "raters", "more often", "less often"],
        note=f"sd: of the true rates, chance taken out. At most {found.level:.0%} of the flags of a measure are false.",
    )
    for measure in MEASURES:
        one, mine = found.populations[measure], found.frame.filter(pl.col("measure") == measure)
        above, below = (int((mine["flag"] == side).sum()) for side in ("above", "below"))
        cells = [Cell(percent(one.mean)), Cell(percent(one.sd)), Cell(f"{one.members:,}")]
        table.rows.append([Cell(measure, number=False), *cells, Cell(f"{above:,}"), Cell(f"{below:,}")])
    return table


def agreement_table(audit: Audit) -> Table:
    """Return Krippendorff's alpha of all raters, and of those of each value of what is known of them."""
    labels = RaterLabels.of(audit.table)
    table = Table(
        "How far raters agree", ["raters", "alpha", "95 %", "comparisons", "labels"],
        note="Krippendorff's alpha: 1 is full agreement, 0 is chance. Comparisons with two labels or more.",
    )  # fmt: skip
    groups = {ALL: np.ones(len(labels.raters), np.bool_)}
    for name in known_of(labels.raters):
        values = [a.about.get(name) for a in labels.raters]
        found = sorted({v for v in values if v is not None})
        if 2 <= len(found) <= _MOST_GROUPS:
            groups |= {f"{name}: {v}": np.array([value == v for value in values]) for v in found}
    known = labels.y != MISSING
    for name, members in groups.items():
        mine = known & members[labels.who]
        counts = value_counts(labels.row[mine], labels.y[mine].astype(np.int64) + 1, len(audit.table), 3)
        row = alpha_of(name, counts, np.random.default_rng(audit.settings.seed))
        numbers = [f"{row[k]:.2f}" if row[k] == row[k] else "–" for k in ("alpha", "low", "high")]
        cells = [Cell(numbers[0]), Cell(f"{numbers[1]}–{numbers[2]}")]
        table.rows.append(
            [Cell(name, number=False), *cells, Cell(f"{row['comparisons']:,}"), Cell(f"{row['labels']:,}")]
        )  # fmt: skip
    return table


def flagged_table(found: Deviants) -> Table:
    """Return the flagged raters, the surest first, each with its cases."""
    flagged = found.flagged
    more = max(flagged.height - _FLAGGED, 0)
    table = Table(
        "Raters who deviate", ["rater", "measure", "%", "95 %", "cases", "q"],
        note=f"{more:,} more in discretion raters --json." if more else "",
    )  # fmt: skip
    for row in flagged.head(_FLAGGED).iter_rows(named=True):
        state = "consensus" if row["measure"] == ARBITRARINESS else ""
        query = Query(state=state, annotator=row["rater"], side=SIDES[row["measure"]])
        table.rows.append(
            [
                Cell(row["rater"], number=False), Cell(row["measure"], number=False), Cell(percent(row["rate"])),
                Cell(interval(row["low"], row["high"])), Cell(f"{row['count']:,.0f} of {row['n']:,.0f}", query),
                Cell(probability(row["q"])),
            ]
        )  # fmt: skip
    return table


def segments_rows(found: Segments, filters: Collection[str]) -> pl.DataFrame:
    """Return figures by segment: segment, figure, estimate, low, high, n, rest, flag, cases (an address).

    The figures are the agreement states and the reference's arbitrariness; `filters` names the attributes that cases
    can be asked for by.
    """
    of_reference = (pl.col("figure") == ARBITRARINESS) & (pl.col("annotator") == found.reference)
    frame = found.frame.filter(pl.col("figure").is_in(list(STATES)) | of_reference)
    return frame.select(
        "segment", "comparisons", "figure", "estimate", "low", "high", "n", "rest",
        flag=pl.when(pl.col("flag") == "").then(pl.lit("")).otherwise(pl.lit("unlike the rest")),
        cases=pl.struct("segment", "figure").map_elements(
            lambda row: _address(found, row["segment"], row["figure"], filters), return_dtype=pl.String
        ),
    )  # fmt: skip


def _query(found: Segments, segment: str, figure: str, filters: Collection[str]) -> Query | None:
    values = found.values[found.names.index(segment)]
    if values is None or not set(found.by) <= set(filters):  # a range or a period is no value to ask for
        return None
    attributes = tuple(zip(found.by, values, strict=True))
    if figure in STATES:
        return Query(state=figure, attributes=attributes)
    return Query(state="consensus", annotator=found.reference, side="against-consensus", attributes=attributes)


def _address(found: Segments, segment: str, figure: str, filters: Collection[str]) -> str:
    query = _query(found, segment, figure, filters)
    return "" if query is None else query.address()


def segments_table(found: Segments, filters: Collection[str]) -> Table:
    """Return the segments, a row each, and what differs from the rest."""
    who = plain(found.reference, 40)
    table = Table(
        f"By {', '.join(found.by)}",
        ["segment", "comparisons", *(f"{state}, %" for state in STATES), f"{who} against a consensus, %"],
        note=f"*: unlike the rest (at most {found.level:.0%} of these falsely, of each figure).",
    )
    for segment in found.frame["segment"].unique(maintain_order=True).to_list():
        rows = found.frame.filter(pl.col("segment") == segment)
        cells = [Cell(segment, number=False), Cell(f"{rows['comparisons'][0]:,}")]
        for figure in (*STATES, ARBITRARINESS):
            mine = rows.filter(pl.col("figure") == figure)
            if figure == ARBITRARINESS:
                mine = mine.filter(pl.col("annotator") == found.reference)
            if not mine.height:
                cells.append(Cell("–"))
                continue
            row = mine.row(0, named=True)
            star = "*" if row["flag"] else ""
            cells.append(Cell(percent(row["estimate"]) + star, _query(found, segment, figure, filters)))
        table.rows.append(cells)
    return table


def overruled_tables(found: Overruled) -> list[Table]:
    """Return what annotators overrule together: groups of cases by their words, and the words that go with it."""
    if not found.clusters.height and not found.words.height:
        return []
    groups = Table(
        "Cases that annotators overrule together, by their words", ["words", "cases", "with the first word"],
        note="Candidates for a principle that the constitution lacks: read them by group.",
    )  # fmt: skip
    for size, words in found.clusters.select("size", "words").iter_rows():
        told = Cell(", ".join(words) or "(no words of their own)", number=False)
        read = Cell(f"read “{words[0]}”", _of_word(words[0])) if words else Cell("–")
        groups.rows.append([told, Cell(f"{size:,}"), read])
    single = Table(
        "Words that go with being overruled",
        ["word", "in", "overruled cases", "overruled with it, %", "without it, %", "q"],
        note="Shares of the consensus cases with the word, and of those without, that are overruled together.",
    )
    for row in found.words.iter_rows(named=True):
        single.rows.append(
            [
                Cell(row["word"], _of_word(row["word"]), number=False), Cell(row["where"], number=False),
                Cell(f"{row['cases']:,.0f}"), Cell(percent(row["with"])),
                Cell(percent(row["without"])), Cell(probability(row["q"])),
            ]
        )  # fmt: skip
    return [table for table in (groups, single) if table.rows]


def _of_word(word: str) -> Query:
    return Query(state="overruled", text=word)


def granularity_rows(audit: Audit, found: Granularity) -> pl.DataFrame:
    """Return principles, figure, estimate (like ones merged), mean, low and high (dropped at random)."""
    reference = audit.settings.reference
    mine = pl.col("figure").is_in(list(STATES)) | (
        (pl.col("figure") == ARBITRARINESS) & (pl.col("annotator") == reference)
    )
    merged = found.merging.filter(mine).select("principles", "figure", "estimate")
    dropped = found.dropping.filter(mine).select("principles", "figure", "mean", "low", "high")
    return merged.join(dropped, on=["principles", "figure"], how="full", coalesce=True).sort("figure", "principles")


def groups_table(found: Granularity) -> Table:
    """Return which principles are merged at each step."""
    table = Table("Which principles are merged", ["principles left", "merged"])
    for size in found.groups["principles"].unique().sort(descending=True).to_list():
        groups = found.groups.filter(pl.col("principles") == size)["group"].to_list()
        text = "; ".join(" + ".join(group) for group in groups)
        table.rows.append([Cell(f"{size}"), Cell(text, number=False)])
    return table
