"""Rules on where streams resume: their origins must still have what comes next. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drc.config import Config
from drc.gtid import GtidSet
from drc.preflight.facts import Facts, Finding, foreign_uuids, judge
from drc.source.resume import native_set, start_set


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield findings on each stream whose target was asked as its applier."""
    reached = {name: site for name, site in facts.items() if site.reached}
    for target in reached:
        if "applier" in reached[target].accounts:
            for origin in reached:
                if origin != target:
                    yield from _resume(config, origin, target, reached)


def lost(config: Config, facts: Facts) -> bool:
    """Return whether some origin seems to have lost what a target has applied."""
    return any(finding.setting == "gtid_executed" for finding in check(config, facts))


def decided_at(config: Config, origin: str, target: str, facts: Facts) -> GtidSet:
    """Return what is decided at ``target`` of ``origin``, or will count as such at its start."""
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
    applied = decided_at(config, origin, target, facts)
    purged = native_set(site.gtid_purged, foreign_uuids(origin, facts)) - applied
    if known := (facts[target].ledger or {}).get(origin):
        purged = purged - known.given_up
    yield judge(
        good=not purged,
        finding=Finding(
            origin,
            "binlogs",
            f"all that {target} still needs",
            f"purged before they were applied at {target}: {purged}" if purged else "all there",
            "fail",
            f"{target} would miss these transactions",
            "restore those binlogs; or copy the data anew and set replicate.start to the GTID"
            f" set of the copy, with the rows of origin {origin} removed from drc.ledger at"
            f" {target}",
        ),
    )
    if gone := applied - site.gtid_executed:
        yield Finding(
            origin,
            "gtid_executed",
            f"holds all that {target} has applied",
            f"no longer has: {gone}",
            "fail",
            "it lost its newest transactions, or it was restored or reset",
            f"compare the tables with {target} and repair them; sync_binlog = 1 prevents this",
        )
