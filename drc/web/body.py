"""The body of a command that is sent to a daemon's API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from drc.worker.snapshot import about


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of all commands; each command takes some of the fields."""

    reason: Annotated[str, about("the reason, for the audit")] = ""
    actor: Annotated[str, about("the author of the command, for the audit")] = ""
    to: Annotated[str | None, about("a GTID set, a time, or an offset of the topic")] = None
    gtids: Annotated[str, about("the GTID set to give up")] = ""
    dry_run: Annotated[bool, about("only report the consequences")] = False
    force: Annotated[bool, about("give up transactions, for a reason")] = False
