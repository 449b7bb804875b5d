"""Communities as JSON can hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from discretion.communities import Communities, distances_between_groups
from discretion.document import records


def document(found: Communities, principles: Sequence[str]) -> dict[str, Any]:
    """Return what was found as JSON can hold it."""
    made: dict[str, Any] = {
        "by": list(found.by), "communities": list(found.names), "replicates": found.replicates, "seed": found.seed,
        "gap": found.gap, "gap_p": found.gap_p, "gap_comparisons": found.gap_comparisons,
        "labels": records(found.labels), "alpha": records(found.alpha), "why_no_alpha": found.why_no_alpha,
        "tests": records(found.tests), "deals": found.deals,
        "agreement": records(found.agreement), "members": records(found.members), "crossed": records(found.crossed),
        "reweighting": records(found.reweighting),
    }  # fmt: skip
    if found.audit is not None:
        for name in ("arbitrariness", "differences", "priority", "supremacy", "discrepancy", "floor"):
            made[name] = records(getattr(found.audit, name))
    if found.groups is not None:
        g = found.groups
        made["groups"] = {
            "k": g.k, "held_out": g.held_out.tolist(), "behind": g.behind.tolist(), "error": g.error.tolist(),
            "shares": g.mixture.shares.tolist(), "rand": g.stability.rand.tolist(),
            "rand_by_chance": g.null.rand.tolist(),
            "priorities": [dict(zip(principles, row, strict=True)) for row in g.mixture.priorities.tolist()],
            "apart": records(distances_between_groups(g)),
        }  # fmt: skip
    if found.weights is not None:
        w = found.weights
        made["weighting"] = {"effective": w.effective, "design_effect": w.design_effect, "gap": w.gap,
                             "converged": w.converged, "unknown": dict(found.unknown)}  # fmt: skip
    return made
