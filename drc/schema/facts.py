"""Rows of schema ``drc`` as plain values, for rooms that judge and do not ask. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from drc.gtid import GtidSet


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """Of one origin, at this site: what is decided, and what an operator gave up on."""

    applied: GtidSet
    seq: int = 0
    skipped: GtidSet = field(default_factory=GtidSet)
