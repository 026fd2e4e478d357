"""Resume: the GTID set from which a session starts."""

from __future__ import annotations

import pytest

from drc.errors import DataError, PreflightError
from drc.gtid import GtidSet, parse_uuid
from drc.source.resume import resume_set, start_set

A = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
B = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"


def resume(applied: str, executed: str, purged: str = "") -> str:
    found = resume_set(
        GtidSet.parse(applied), GtidSet.parse(executed), GtidSet.parse(purged), {parse_uuid(B)}
    )
    return str(found)


def test_starts_from_the_ledger() -> None:
    assert resume(f"{A}:1-5", f"{A}:1-9") == f"{A}:1-5"


def test_what_was_purged_and_is_not_ours_is_left_out() -> None:
    purged = f"{A}:1-5:drc:1-7,{B}:1-3"
    assert resume(f"{A}:1-5", f"{A}:1-9:drc:1-9,{B}:1-3", purged) == purged


def test_what_was_purged_and_is_needed_is_named() -> None:
    with pytest.raises(PreflightError, match=f"purged .*{A}:6-8 ") as caught:
        resume(f"{A}:1-5", f"{A}:1-9", f"{A}:1-8")
    assert "restore" in caught.value.hint


def test_a_source_that_lost_transactions_is_named() -> None:
    with pytest.raises(DataError, match=f"{A}:8-9 "):
        resume(f"{A}:1-9", f"{A}:1-7")


def test_a_start_set_is_cut_to_what_is_native() -> None:
    """Check the cut: a configured set serves all streams, and only native GTIDs of a site count."""
    here = start_set(f"{A}:1-5,{B}:1-7", GtidSet, lambda: {parse_uuid(B)})
    assert str(here) == f"{A}:1-5"
