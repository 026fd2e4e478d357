"""Slots of row images: a slot for each key, equal for equal keys, None for "any key"."""

import struct

import pytest

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.rows.slots import canonicalizer, compile_slots, slot_walkers, stored, unknown

AI_CI, BINARY = 255, 63


def column(
    name: str, kind: int, meta: int = 0, *, nullable: bool = False, collation: int = 0
) -> Column:
    return Column(name, kind, meta, nullable, unsigned=False, collation=collation)


def table(columns: list[Column], primary_key: list[tuple[int, int]], name: str = "t") -> TableMap:
    return TableMap(1, "shop", name, tuple(columns), tuple(primary_key), b"")


ID = column("id", ev.TYPE_LONGLONG)
EMAIL = column("email", ev.TYPE_VARCHAR, 1020, nullable=True, collation=AI_CI)
CODE = column("code", ev.TYPE_VARCHAR, 20, nullable=True, collation=BINARY)
USERS = table([ID, EMAIL, CODE], [(0, 0)])


def image(key: int, email: str | None, code: bytes | None) -> bytes:
    nulls = (email is None) << 1 | (code is None) << 2
    out = bytes((nulls,)) + key.to_bytes(8, "little")
    if email is not None:
        out += len(email.encode()).to_bytes(2, "little") + email.encode()
    if code is not None:
        out += bytes((len(code),)) + code
    return out


def test_one_slot_for_each_key() -> None:
    slots = compile_slots(USERS, [((1, 0),), ((2, 0),), ((1, 0), (2, 0))])
    first = slots(image(1, "Ann@x.de", b"A"))
    again = slots(image(1, "aNN@X.DE", b"A"))
    other = slots(image(1, "bob@x.de", b"A"))
    assert first is not None
    assert other is not None
    assert len(set(first)) == 4
    assert first == again
    assert [a == b for a, b in zip(first, other, strict=True)] == [True, False, True, False]
    assert all(0 <= slot < 1 << 64 for slot in first)


def test_a_key_with_null_has_no_slot() -> None:
    slots = compile_slots(USERS, [((1, 0),), ((1, 0), (2, 0))])
    full = slots(image(1, "a", b"b"))
    assert full is not None
    assert slots(image(1, "a", None)) == full[:2]
    assert slots(image(1, None, b"b")) == full[:1]


@pytest.mark.parametrize("email", ["Ann@x.de", "ß", None])
@pytest.mark.parametrize("code", [b"A", None])
def test_the_walker_for_any_nulls_agrees(email: str | None, code: bytes | None) -> None:
    row = image(1, email, code)
    walkers = slot_walkers(USERS, [((1, 0),), ((2, 0),), ((1, 0), (2, 0))])
    straight = walkers[row[:1]](row, 0)
    for other in range(1, 64):
        walkers.setdefault(bytes(2) + bytes([other]), walkers[row[:1]])
    del walkers[row[:1]]
    assert row[:1] not in walkers
    assert walkers[row[:1]](row, 0) == straight


def test_unknown_text_touches_any_key_unless_another_part_is_null() -> None:
    slots = compile_slots(USERS, [((1, 0), (2, 0))])
    assert slots(image(1, "ß", b"b")) is None
    assert slots(image(1, "ß", None)) == compile_slots(USERS, [])(image(1, "ß", None))


def test_tables_of_which_nothing_is_known() -> None:
    without_key = table([ID, EMAIL, CODE], [])
    assert compile_slots(without_key, [((0, 0),)])(image(1, "a", b"b")) is None
    over_an_expression = compile_slots(USERS, [()])
    assert over_an_expression(image(1, None, None)) is None
    text = column("x", ev.TYPE_VARCHAR, 20, nullable=True, collation=256)
    german = table([ID, text, CODE], [(0, 0)])
    slots = compile_slots(german, [((1, 0),)])
    row = b"\0" + bytes(8) + b"\x01a" + b"\x01b"
    assert slots(row) is None
    assert slots(b"\x02" + bytes(8) + b"\x01b") is not None  # NULL equals nothing


def test_keys_are_told_apart() -> None:
    row = image(1, None, None)
    seen = {
        compile_slots(USERS, [])(row),
        compile_slots(table([ID, EMAIL, CODE], [(0, 0)], "u"), [])(row),
        compile_slots(table([column("no", 8), EMAIL, CODE], [(0, 0)]), [])(row),
    }
    assert len(seen) == 3
    lettercase = table([column("ID", 8), EMAIL, CODE], [(0, 0)])
    assert compile_slots(lettercase, [])(row) in seen


def test_joined_values_stay_apart() -> None:
    both = table([ID, EMAIL, CODE], [(0, 0)])
    slots = compile_slots(both, [((1, 0), (2, 0))])
    one, two = slots(image(1, "AB", b"C")), slots(image(1, "A", b"BC"))
    assert one is not None
    assert two is not None
    assert one[1] != two[1]


def test_a_walker_starts_anywhere_and_knows_the_end() -> None:
    walkers = slot_walkers(USERS, [((1, 0),)])
    row = image(7, "x", None)
    data = b"...." + row + b"...."
    end, slots = walkers[row[: walkers.null_bytes]](data, 4)
    assert end == 4 + len(row)
    assert slots == compile_slots(USERS, [((1, 0),)])(row)


def test_slots_are_the_same_in_every_process() -> None:
    """Pin the numbers: slots travel with frames and are compared with slots of other sites."""
    assert compile_slots(USERS, [((1, 0),)])(image(7, "x", None)) == PINNED


PINNED = (5736980646804634146, 8792497889805784221)


@pytest.mark.parametrize(
    "kind",
    [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 246, 247, 248, 252, 254],
)
def test_every_key_type_has_a_form(kind: int) -> None:
    meta = {ev.TYPE_NEWDECIMAL: 10 << 8 | 2, ev.TYPE_BIT: 9}.get(kind, 1)
    assert canonicalizer(column("c", kind, meta, collation=BINARY)) is not unknown


@pytest.mark.parametrize("kind", [ev.TYPE_JSON, ev.TYPE_GEOMETRY, ev.TYPE_VECTOR])
def test_other_types_have_none(kind: int) -> None:
    assert canonicalizer(column("c", kind, 4)) is unknown


def test_text_without_a_known_collation_has_no_form() -> None:
    assert canonicalizer(column("c", ev.TYPE_VARCHAR, 20, collation=0)) is unknown


@pytest.mark.parametrize(("kind", "layout"), [(ev.TYPE_FLOAT, "<f"), (ev.TYPE_DOUBLE, "<d")])
def test_floats_have_one_zero(kind: int, layout: str) -> None:
    form = canonicalizer(column("c", kind, struct.calcsize(layout)))
    assert form(struct.pack(layout, -0.0)) == form(struct.pack(layout, 0.0))
    assert form(struct.pack(layout, -1.5)) != form(struct.pack(layout, 1.5))


def test_binary_padding() -> None:
    binary = canonicalizer(column("c", ev.TYPE_STRING, 4, collation=BINARY))
    varbinary = canonicalizer(column("c", ev.TYPE_VARCHAR, 4, collation=BINARY))
    blob = canonicalizer(column("c", ev.TYPE_BLOB, 2, collation=BINARY), 2)
    assert binary(b"\x02a\0") == binary(b"\x01a")
    assert varbinary(b"\x02a\0") != varbinary(b"\x01a")
    assert blob(b"\x03\x00abc") == blob(b"\x02\x00ab")
    assert canonicalizer(ID) is stored


def test_the_width_of_a_length_prefix_does_not_count() -> None:
    narrow = canonicalizer(column("c", ev.TYPE_VARCHAR, 255, collation=BINARY))
    wide = canonicalizer(column("c", ev.TYPE_VARCHAR, 256, collation=BINARY))
    assert narrow(b"\x01a") == wide(b"\x01\x00a")
