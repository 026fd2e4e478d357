"""What an operator wants of a stream. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

Will = Literal["running", "paused", "stopped"]


class Wanted(NamedTuple):
    """Whether a stream is to run, and why not."""

    state: Will = "running"
    reason: str = ""
