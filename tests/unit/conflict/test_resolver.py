"""The resolver: an answer to every case, the same at both sites."""

from __future__ import annotations

from itertools import product

import pytest

from drc.conflict.resolver import Change, ConflictKind, Decision, RowAction, Winner, resolve
from drc.conflict.writes import Rivals, Write
from drc.errors import ConfigError
from drc.gtid import Gtid
from drc.policy import TablePolicy, refuse_divergent

LWW = TablePolicy()
PREFERRED = TablePolicy(policy="site_priority", sites=("b", "a"))
COUNTED = TablePolicy(columns={"n": "delta"})
HIGHEST = TablePolicy(columns={"n": "max"})
BY_COLUMN = TablePolicy(policy="column_merge")
OWNED = TablePolicy(policy="owner_unit", owner_column="unit", owners={"7": "a", "8": "b"})
ASKED = TablePolicy(policy="function", function="m:f")
PARKED = TablePolicy(policy="park")
POLICIES = (OWNED, ASKED, LWW, PREFERRED, COUNTED, HIGHEST, BY_COLUMN, PARKED)
CHANGES = [
    Change(before=before, after=after, exists=exists)
    for before, after, exists in product((False, True), repeat=3)
]
INSERT = Change(before=False, after=True, exists=False)
INSERT_EXISTING = Change(before=False, after=True, exists=True)
UPDATE = Change(before=True, after=True, exists=True)
UPDATE_MISSING = Change(before=True, after=True, exists=False)
DELETE = Change(before=True, after=False, exists=True)
DELETE_MISSING = Change(before=True, after=False, exists=False)
CAME_AND_WENT = Change(before=False, after=False, exists=True)
NOBODY = Rivals(())


def by(site: str, *ets: int) -> Rivals:
    """Return rivals in the order of the index, for any order of ``ets``."""
    return Rivals(tuple(Write(site, Gtid(site.encode() * 16, e), e) for e in sorted(ets)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("found", [NOBODY, by("b", 5), by("b", 50, 5), Rivals((), blind=True)])
def test_every_case_has_an_answer(policy: TablePolicy, change: Change, found: Rivals) -> None:
    decision = resolve(change, found, 10, "a", policy)
    assert bool(decision.reason) == (decision.kind is not None)
    if found.writes or found.blind:
        assert decision.kind is not None
    if decision.action is RowAction.WRITE:
        assert change.after
    if decision.action is RowAction.DELETE:
        assert not change.after
    if decision.action is RowAction.MERGE:
        assert change.after
        assert change.exists
    if decision.action is RowAction.ASK:
        assert policy.function
        assert len(found.writes) == 1
        return
    assert (decision.action is RowAction.KEEP) == (decision.winner in (Winner.LOCAL, Winner.OPEN))
    assert (decision.winner is Winner.OPEN) <= (decision.action is RowAction.KEEP)


@pytest.mark.parametrize("policy", [LWW, PREFERRED])
@pytest.mark.parametrize(("ours", "theirs"), [(5, 6), (6, 5), (5, 5)])
def test_both_sites_choose_the_same(policy: TablePolicy, ours: int, theirs: int) -> None:
    at_b = resolve(UPDATE, by("b", theirs), ours, "a", policy)
    at_a = resolve(UPDATE, by("a", ours), theirs, "b", policy)
    assert {at_a.winner, at_b.winner} == {Winner.REMOTE, Winner.LOCAL}


def test_the_later_one_wins_and_at_one_time_the_name() -> None:
    assert resolve(UPDATE, by("b", 5), 6, "a", LWW).winner is Winner.REMOTE
    assert resolve(UPDATE, by("b", 5), 4, "a", LWW).winner is Winner.LOCAL
    assert resolve(UPDATE, by("b", 5), 5, "a", LWW).winner is Winner.LOCAL
    assert resolve(UPDATE, by("a", 5), 5, "b", LWW).winner is Winner.REMOTE


def test_who_loses_against_one_of_several_loses() -> None:
    assert resolve(UPDATE, by("b", 5, 50), 10, "a", LWW).winner is Winner.LOCAL
    assert resolve(UPDATE, by("b", 50, 5), 10, "a", LWW).winner is Winner.LOCAL
    assert resolve(UPDATE, by("b", 5, 9), 10, "a", LWW).winner is Winner.REMOTE


def test_the_preferred_site_wins_whenever_it_wrote() -> None:
    assert resolve(UPDATE, by("a", 99), 1, "b", PREFERRED).winner is Winner.REMOTE
    assert resolve(UPDATE, by("b", 1), 99, "a", PREFERRED).winner is Winner.LOCAL


@pytest.mark.parametrize(
    ("change", "alone", "with_rival"),
    [
        (INSERT, None, ConflictKind.UPDATE_DELETED),
        (INSERT_EXISTING, ConflictKind.INSERT_EXISTS, ConflictKind.INSERT_EXISTS),
        (UPDATE, None, ConflictKind.UPDATE_ORIGIN_DIFFERS),
        (UPDATE_MISSING, ConflictKind.UPDATE_MISSING, ConflictKind.UPDATE_DELETED),
        (DELETE, None, ConflictKind.DELETE_ORIGIN_DIFFERS),
        (DELETE_MISSING, ConflictKind.DELETE_MISSING, ConflictKind.DELETE_MISSING),
    ],
)
def test_kinds(change: Change, alone: ConflictKind | None, with_rival: ConflictKind) -> None:
    assert resolve(change, NOBODY, 10, "a", LWW).kind is alone
    assert resolve(change, by("b", 5), 10, "a", LWW).kind is with_rival


def test_a_winning_update_brings_a_deleted_row_back() -> None:
    assert resolve(UPDATE_MISSING, by("b", 5), 10, "a", LWW).action is RowAction.WRITE
    assert resolve(UPDATE_MISSING, by("b", 50), 10, "a", LWW).action is RowAction.KEEP


def test_what_nothing_explains_is_written_and_said() -> None:
    decision = resolve(UPDATE_MISSING, NOBODY, 10, "a", LWW)
    assert decision == Decision(
        RowAction.WRITE,
        ConflictKind.UPDATE_MISSING,
        Winner.REMOTE,
        "no concurrent write explains this",
    )


def test_what_cannot_be_judged_is_left_open() -> None:
    for change in CHANGES:
        assert resolve(change, Rivals((), blind=True), 10, "a", LWW).winner is Winner.OPEN
        assert resolve(change, by("b", 5), 10, "a", PARKED).winner is Winner.OPEN


def test_increments_of_both_stay_and_other_columns_follow_the_winner() -> None:
    assert resolve(UPDATE, by("b", 5), 10, "a", COUNTED)[:3] == (
        RowAction.MERGE,
        ConflictKind.UPDATE_ORIGIN_DIFFERS,
        Winner.MERGED,
    )
    assert resolve(UPDATE, by("b", 5), 10, "a", COUNTED).takes
    assert not resolve(UPDATE, by("b", 50), 10, "a", COUNTED).takes


def test_a_counter_that_was_deleted_or_inserted_is_left_open() -> None:
    for change in CHANGES:
        if change != UPDATE:
            assert resolve(change, by("b", 5), 10, "a", COUNTED).winner is Winner.OPEN


@pytest.mark.parametrize(
    ("change", "newer", "older"),
    [
        (UPDATE, Winner.MERGED, Winner.MERGED),
        (INSERT_EXISTING, Winner.MERGED, Winner.MERGED),
        (UPDATE_MISSING, Winner.OPEN, Winner.LOCAL),
        (INSERT, Winner.OPEN, Winner.LOCAL),
        (DELETE, Winner.REMOTE, Winner.OPEN),
        (DELETE_MISSING, Winner.REMOTE, Winner.LOCAL),
        (CAME_AND_WENT, Winner.REMOTE, Winner.OPEN),
    ],
)
def test_a_row_with_a_maximum_goes_whole_or_not_at_all(
    change: Change, newer: Winner, older: Winner
) -> None:
    assert resolve(change, by("b", 5), 10, "a", HIGHEST).winner is newer
    assert resolve(change, by("b", 50), 10, "a", HIGHEST).winner is older


def test_an_insert_that_meets_more_than_an_insert_is_left_open() -> None:
    assert resolve(INSERT_EXISTING, by("b", 4, 5), 10, "a", HIGHEST).winner is Winner.OPEN


def test_the_owner_of_a_row_wins_whenever_it_wrote() -> None:
    mine, theirs = UPDATE._replace(owner="a"), UPDATE._replace(owner="b")
    assert resolve(mine, by("b", 99), 1, "a", OWNED)[2:4] == (Winner.REMOTE, "a owns the row")
    assert resolve(theirs, by("b", 1), 99, "a", OWNED)[2:4] == (Winner.LOCAL, "b owns the row")


def test_a_row_that_no_site_owns_goes_by_time_and_one_of_several_is_left_open() -> None:
    assert resolve(UPDATE, by("b", 99), 1, "a", OWNED).winner is Winner.LOCAL
    assert resolve(UPDATE, by("b", 1), 99, "a", OWNED).winner is Winner.REMOTE
    disputed = UPDATE._replace(owner=None)
    assert resolve(disputed, by("b", 1), 99, "a", OWNED).winner is Winner.OPEN
    assert resolve(disputed, NOBODY, 99, "a", OWNED).kind is None


def test_a_function_is_asked_about_two_writes() -> None:
    assert resolve(UPDATE, by("b", 5), 10, "a", ASKED).action is RowAction.ASK
    assert resolve(DELETE, by("b", 5), 10, "a", ASKED).action is RowAction.ASK
    assert (
        resolve(DELETE_MISSING, by("b", 5), 10, "a", ASKED).winner is Winner.REMOTE
    )  # both sites deleted the row
    for change in (UPDATE, DELETE_MISSING):
        assert resolve(change, by("b", 4, 5), 10, "a", ASKED).winner is Winner.OPEN


def test_who_owns_a_row() -> None:
    assert OWNED.owner([7, "7", 7]) == "a"
    assert OWNED.owner([9]) == ""
    assert OWNED.owner([None]) == ""
    assert OWNED.owner([7, 8]) is None
    assert OWNED.owner([7, None]) is None


def test_a_change_brings_the_columns_that_no_later_write_changed() -> None:
    change = UPDATE._replace(changed=0b011)
    rival = Write("b", Gtid(b"b" * 16, 1), 50, 0b110)
    decision = resolve(change, Rivals((rival,)), 10, "a", BY_COLUMN)
    assert (decision.winner, decision.takes) == (Winner.MERGED, 0b001)
    assert resolve(change, Rivals((rival,)), 60, "a", BY_COLUMN).takes == 0b011


def test_merged_by_column_an_insert_may_follow_a_delete_that_won() -> None:
    assert resolve(INSERT, by("b", 5), 10, "a", BY_COLUMN).winner is Winner.REMOTE
    assert resolve(UPDATE_MISSING, by("b", 5), 10, "a", BY_COLUMN).winner is Winner.OPEN
    assert resolve(DELETE, by("b", 50), 10, "a", BY_COLUMN).winner is Winner.OPEN


# ------------------------------------------------------------ policies


@pytest.mark.parametrize("policy", [PREFERRED, OWNED, ASKED, COUNTED, HIGHEST, BY_COLUMN])
def test_what_does_not_make_three_sites_agree_is_refused(policy: TablePolicy) -> None:
    refuse_divergent(policy, ("a", "b"), "conflicts")
    with pytest.raises(ConfigError, match="3 sites"):
        refuse_divergent(policy, ("a", "b", "c"), "conflicts")


def test_the_last_writer_makes_any_number_of_sites_agree() -> None:
    refuse_divergent(LWW, ("a", "b", "c"), "conflicts")


def test_a_preference_names_both_sites() -> None:
    with pytest.raises(ConfigError, match=r"conflicts\.sites"):
        refuse_divergent(PREFERRED, ("a", "x"), "conflicts")


def test_owners_are_sites_of_this_pair() -> None:
    with pytest.raises(ConfigError, match="b is not a site"):
        refuse_divergent(OWNED, ("a", "c"), "conflicts")


def test_owners_belong_to_owner_unit() -> None:
    for given in ({"owner_column": "unit"}, {"owners": {"7": "a"}}):
        for policy in ("owner_unit", "last_writer_wins"):
            with pytest.raises(ValueError, match="owner_unit of a table needs"):
                TablePolicy(policy=policy, **given)


def test_sites_belong_to_site_priority() -> None:
    with pytest.raises(ValueError, match="site_priority"):
        TablePolicy(sites=("a", "b"))
    with pytest.raises(ValueError, match="site_priority"):
        TablePolicy(policy="site_priority")
