"""The state that an operator wants of a stream. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

Will = Literal["running", "paused", "stopped"]


class Wanted(NamedTuple):
    """The state that an operator wants, and the operator's reason."""

    state: Will = "running"
    reason: str = ""
