"""The algebra of GTID sets, compared with plain Python sets."""

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc.gtid import Gtid, GtidSet

# Few servers and numbers, so that intervals meet, touch, swallow and split each other.
UUIDS = [bytes([n]) * 16 for n in (1, 2, 255)]
gtids = st.builds(
    Gtid, st.sampled_from(UUIDS), st.integers(1, 40), st.sampled_from(["", "drc", "drc_b", "_z"])
)
untagged = st.builds(Gtid, st.sampled_from(UUIDS), st.integers(1, 40), st.just(""))
many = st.frozensets(gtids, max_size=60) | st.frozensets(untagged, max_size=60)
ranges = st.tuples(
    st.sampled_from(UUIDS), st.sampled_from(["", "drc"]), st.integers(1, 40), st.integers(0, 40)
)


def of(members: frozenset[Gtid]) -> GtidSet:
    out = GtidSet()
    for gtid in members:
        out.add(gtid)
    return out


def members_of(gtid_set: GtidSet) -> frozenset[Gtid]:
    return frozenset(
        Gtid(uuid, gno, tag)
        for uuid, tag, start, end in gtid_set.intervals()
        for gno in range(start, end)
    )


def assert_canonical(gtid_set: GtidSet) -> None:
    """Check that bounds of a server and tag strictly increase: none empty, touching or split."""
    seen: dict[tuple[bytes, str], int] = {}
    for uuid, tag, start, end in gtid_set.intervals():
        assert seen.get((uuid, tag), 0) < start < end
        seen[uuid, tag] = end
    assert bool(gtid_set) == bool(seen)


@given(many, gtids)
def test_membership_and_length(members: frozenset[Gtid], other: Gtid) -> None:
    gtid_set = of(members)
    assert_canonical(gtid_set)
    assert members_of(gtid_set) == members
    assert len(gtid_set) == len(members)
    assert bool(gtid_set) == bool(members)
    assert (other in gtid_set) == (other in members)


@pytest.mark.parametrize("operation", [operator.or_, operator.sub, operator.and_])
@given(a=many, b=many)
def test_algebra(
    operation: Callable[[object, object], object], a: frozenset[Gtid], b: frozenset[Gtid]
) -> None:
    left, right = of(a), of(b)
    result = operation(left, right)
    assert isinstance(result, GtidSet)
    assert_canonical(result)
    assert members_of(result) == operation(a, b)
    assert (members_of(left), members_of(right)) == (a, b)  # the operands are unchanged


@given(many, many)
def test_order(a: frozenset[Gtid], b: frozenset[Gtid]) -> None:
    assert (of(a) <= of(b)) == (a <= b)
    assert (of(a) >= of(b)) == (a >= b)
    assert (of(a) == of(b)) == (a == b)
    assert of(a) <= of(a | b)
    assert of(a & b) <= of(a)


@given(many, many)
def test_update(a: frozenset[Gtid], b: frozenset[Gtid]) -> None:
    left, right = of(a), of(b)
    left.update(right)
    left.add(Gtid(UUIDS[0], 99, "new"))
    assert members_of(left) == a | b | {Gtid(UUIDS[0], 99, "new")}
    assert members_of(right) == b


@given(st.lists(ranges, max_size=12))
def test_ranges(added: list[tuple[bytes, str, int, int]]) -> None:
    gtid_set, expected = GtidSet(), set()
    for uuid, tag, start, end in added:
        gtid_set.add_range(uuid, tag, start, end)
        expected |= {Gtid(uuid, gno, tag) for gno in range(start, end)}
    assert_canonical(gtid_set)
    assert members_of(gtid_set) == expected


@given(many)
def test_text_round_trip(members: frozenset[Gtid]) -> None:
    gtid_set = of(members)
    text = str(gtid_set)
    assert GtidSet.parse(text) == gtid_set
    assert GtidSet.parse(text.replace(",", ",\n").upper()) == gtid_set
    assert GtidSet.parse(",".join(map(str, members))) == gtid_set


@given(many)
def test_bytes_round_trip(members: frozenset[Gtid]) -> None:
    data = of(members).encode()
    assert GtidSet.decode(data) == of(members)
    assert (data[7] == 1) == any(gtid.tag for gtid in members)


@given(gtids)
def test_one_gtid_is_written_as_a_set_of_one(gtid: Gtid) -> None:
    assert str(of(frozenset([gtid]))) == str(gtid)
