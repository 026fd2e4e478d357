"""A user's function, for `function = "tests.faults.deciding:parcel"`."""

from __future__ import annotations

from typing import Any

from drc.conflict.function import Conflict


def parcel(conflict: Conflict) -> Any:
    """Decide in each of the possible ways, by the key."""
    earlier, later, base = conflict.earlier.values, conflict.later.values, conflict.base
    if earlier is None or later is None:
        return "earlier"
    assert base
    if earlier["id"] == 1:
        return {
            "n": earlier["n"] + later["n"] - base["n"],
            "d": "7.25",
            "v": f"{earlier['v']}+{later['v']}",
            **{name: earlier[name] for name in ("doc", "f", "e", "raw")},
        }
    if earlier["id"] == 2:
        return "earlier"
    return {"v": "far too long for this column"}
