"""A study whose every name and text tries to become something else than text."""

from __future__ import annotations

import numpy as np
import polars as pl

from discretion.audit import Audit, audit
from discretion.comparison import Comparisons
from discretion.constitution import Constitution, Principle
from discretion.table import Annotator, Exclusion, PreferenceTable

ATTACKS = (
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "</script><script>window.hacked = 1</script>",
    "javascript:window.hacked=1",
    "{{ 7 * 7 }}{% raw %}",
    "\u202ereversed\u2066",
    "\x1b[31mred\x07\x00",
    "<!--<script>",
    "'; window.hacked = 1; //",
    "${window.hacked=1}",
    "\u2028\u2029\\u003cscript\\u003e",
    "</textarea></title></style><svg onload=window.hacked=1>",
)


def hostile_audit(replicates: int = 20) -> Audit:
    """An audit in which every name, id, wording, attribute and text is an attack."""
    rng = np.random.default_rng(2)
    n, p = 60, len(ATTACKS)
    X = rng.choice(np.array([-1, 0, 1], np.int8), size=(n, p))
    names = [f"{attack} p{k}" for k, attack in enumerate(ATTACKS)]
    who = [f"{ATTACKS[k]} a{k}" for k in (0, 1, 2, 6)]
    ids = [f"{ATTACKS[k % p]}/../{k}?x=&y#{k}" for k in range(n)]
    topics = [ATTACKS[k % 3] for k in range(n)]
    raters = tuple(
        Annotator(
            f"{ATTACKS[k % p]}/r{k}",
            rng.choice(np.array([-1, 0, 1], np.int8), 30),
            np.sort(rng.choice(n, 30, replace=False)).astype(np.int32),
            "rater",
            ATTACKS[0],
            about={ATTACKS[1]: ATTACKS[k % 2]},
            times=np.arange(30.0),
        )
        for k in range(12)
    )
    table = PreferenceTable(
        ids=pl.Series("id", ids),
        constitution=Constitution(tuple(Principle(m, f"{m} wording") for m in names), ATTACKS[0]),
        X=X,
        annotators=tuple(Annotator(name, rng.choice(np.array([-1, 1], np.int8), n), source=ATTACKS[1]) for name in who)
        + raters,
        attributes=pl.DataFrame({ATTACKS[3]: topics}),
        exclusions=(Exclusion(ATTACKS[0], ATTACKS[1], 3, (ATTACKS[2],)),),
    )
    texts = pl.DataFrame(
        {
            "id": ids,
            "prompt": [f"\n\nHuman: {ATTACKS[k % p]}\n\nAssistant:" for k in range(n)],
            "first": [ATTACKS[(k + 1) % p] for k in range(n)],
            "second": [f"{ATTACKS[(k + 1) % p]} and {ATTACKS[(k + 2) % p]}" for k in range(n)],
        }
    )
    return audit(
        table,
        replicates=replicates,
        name=ATTACKS[2],
        comparisons=Comparisons(texts, f"{ATTACKS[1]}.jsonl"),
        warnings=[ATTACKS[0]],
    )
