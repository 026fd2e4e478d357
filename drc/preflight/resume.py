"""Resume rules: whether each origin still has the next transactions of its streams. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drc.config import Config
from drc.gtid import GtidSet
from drc.preflight.facts import Facts, Finding, foreign_uuids, judge
from drc.source.resume import native_set, start_set


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield findings on each stream whose target was asked with the applier account."""
    reached = {name: site for name, site in facts.items() if site.reached}
    for target in reached:
        if "applier" in reached[target].accounts:
            for origin in reached:
                if origin != target:
                    yield from _resume(config, origin, target, reached)


def lost(config: Config, facts: Facts) -> bool:
    """Return whether an origin seems to have lost transactions that are decided at a target."""
    return any(finding.setting == "gtid_executed" for finding in check(config, facts))


def decided_at(config: Config, origin: str, target: str, facts: Facts) -> GtidSet:
    """Return the GTIDs of ``origin`` that are decided at ``target``.

    For a stream that has no ledger row yet, return the GTIDs that a new stream treats as decided
    (``replicate.start``).
    """
    known = (facts[target].ledger or {}).get(origin)
    if known is not None:
        return known.decided
    return start_set(
        config.replicate.start,
        lambda: facts[origin].gtid_executed,
        lambda: foreign_uuids(origin, facts),
    )


def _resume(config: Config, origin: str, target: str, facts: Facts) -> Iterator[Finding]:
    site = facts[origin]
    decided = decided_at(config, origin, target, facts)
    purged = native_set(site.gtid_purged, foreign_uuids(origin, facts)) - decided
    if known := (facts[target].ledger or {}).get(origin):
        purged = purged - known.skipped
    yield judge(
        good=not purged,
        finding=Finding(
            origin,
            "binlogs",
            f"all transactions that {target} still needs",
            f"purged before they were applied at {target}: {purged}" if purged else "all present",
            "fail",
            f"{target} would miss these transactions",
            "restore the purged binlogs; or copy the data again, set replicate.start to the GTID"
            f" set of the copy, and delete the rows of origin {origin} from drc.ledger at"
            f" {target}",
        ),
    )
    if gone := decided - site.gtid_executed:
        yield Finding(
            origin,
            "gtid_executed",
            f"contains all transactions that are decided at {target}",
            f"no longer has: {gone}",
            "fail",
            f"{origin} lost its newest transactions, or was restored or reset",
            f"compare the tables with {target} and repair the differences; sync_binlog = 1"
            " prevents such a loss",
        )
