"""Rows of schema ``drc`` as values, for modules that judge without asking a server. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from drc.gtid import GtidSet


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """GTIDs of an origin at a site: the decided set and the set that operators gave up on."""

    decided: GtidSet
    seq: int = 0
    given_up: GtidSet = field(default_factory=GtidSet)
