"""Reposition: transactions that are read again or given up, and refused GTID sets."""

from __future__ import annotations

import pytest

from drc.control.reposition import Plan, judge
from drc.gtid import GtidSet, parse_uuid

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"


def places(to: str, *, decided: str = "1-100", executed: str = "1-150", purged: str = "") -> Plan:
    def own(text: str) -> GtidSet:
        return GtidSet.parse(f"{A}:{text}" if text else "")

    others = GtidSet.parse(f"{A}:drc:1-40,{B}:1-9")  # replicated rows and DDL
    return judge(
        "a",
        "b",
        own(to),
        decided=own(decided) | others,
        executed=own(executed) | others,
        purged=own(purged),
        foreign={parse_uuid(B)},
    )


@pytest.mark.parametrize(
    ("to", "repeated", "skipped", "harmless"),
    [
        ("1-100", "", "", True),
        ("1-60", "61-100", "", True),
        ("", "1-100", "", True),
        ("1-101", "", "101", False),
        ("1-150", "", "101-150", False),
        ("1-60:110-120", "61-100", "110-120", False),
    ],
)
def test_going_back_is_harmless_and_going_past_what_is_not_applied_is_not(
    to: str, repeated: str, skipped: str, *, harmless: bool
) -> None:
    found = places(to)
    texts = [f"{A}:{t}" if t else "" for t in (repeated, skipped)]
    assert [str(found.repeated), str(found.skipped)] == texts
    assert (found.refusal is None) is harmless
    assert found.document()["harmless"] is harmless
    if skipped:
        assert texts[1] in str(found.refusal)


def test_what_is_read_again_is_the_origins_own_and_what_it_still_has() -> None:
    found = places("1-60", purged="1-70")
    assert (str(found.repeated), str(found.gone)) == (f"{A}:71-100", f"{A}:61-70")
    assert found.refusal is None
    assert found.already_read == GtidSet.parse(f"{A}:1-70,{A}:drc:1-40,{B}:1-9")


def test_what_is_purged_and_not_applied_is_lost_wherever_one_begins() -> None:
    for to in ("1-60", "1-120"):
        found = places(to, purged="1-110")
        assert str(found.lost) == f"{A}:101-110"
        assert found.refusal
        assert found.forcible


def test_nobody_can_insist_on_what_never_was() -> None:
    found = places("1-200")
    assert found.refusal
    assert not found.forcible
    assert str(found.unknown) == f"{A}:151-200"
