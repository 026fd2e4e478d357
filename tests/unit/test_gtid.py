"""GTIDs and GTID sets: text as the server prints, bytes as the server sends."""

import pytest

from drc.errors import ConfigError, InvariantError
from drc.gtid import GNO_MAX, Gtid, GtidSet, format_uuid, parse_uuid

U = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
V = "556ea530-e751-11f1-9ee0-02fc00000001"
RAW_U = bytes.fromhex(U.replace("-", ""))
RAW_V = bytes.fromhex(V.replace("-", ""))


def test_gtid_text() -> None:
    assert str(Gtid(RAW_U, 17)) == f"{U}:17"
    assert str(Gtid(RAW_U, 17, "drc")) == f"{U}:drc:17"


def test_uuid_text() -> None:
    assert parse_uuid(U) == parse_uuid(U.replace("-", "").upper()) == RAW_U
    assert format_uuid(RAW_U) == U
    with pytest.raises(ConfigError):
        parse_uuid(U[:8] + U[9:])  # some hyphens, not all


# Answers of GTID_SUBTRACT(text, '') in MySQL 9.7.4.
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        (" ", ""),
        (f"{U}:5-3", ""),
        (f"{U}:5-3:7", f"{U}:7"),
        (f"{U}:1-0", ""),
        (f"{U}:{GNO_MAX}", f"{U}:9223372036854775806"),
        (f"{U}:01", f"{U}:1"),
        (f"{U}:1-2,,{U}:3", f"{U}:1-3"),
        (f"{U}:1 - 2", f"{U}:1-2"),
        (f"{U} : 1", f"{U}:1"),
        (f"{U}:\n1", f"{U}:1"),
        (f"{U}:drc:1:drc:2", f"{U}:drc:1-2"),
        (f"{U}:drc:drc2:1", f"{U}:drc2:1"),
        (f"{U.upper()}:DRC:3", f"{U}:drc:3"),
        (f"{U.replace('-', '')}:4", f"{U}:4"),
        (f"{U}:drc:1-3:drc:2-9:a:4", f"{U}:a:4:drc:1-9"),
        (f"{U}:_a1:3", f"{U}:_a1:3"),
        (f"{U}:{'a' * 32}:3", f"{U}:{'a' * 32}:3"),
        (f"{U}\n:drc :1", f"{U}:drc:1"),
        (f"{V}:1-2:a:1:drc:1,\n{U}:7", f"{U}:7,{V}:1-2:a:1:drc:1"),
        (f"{U}:1-5:4-9:11", f"{U}:1-9:11"),
    ],
)
def test_set_text(text: str, printed: str) -> None:
    assert str(GtidSet.parse(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        U,
        f"{U}:",
        f"{U}:0",
        f"{U}:0-5",
        f"{U}:{GNO_MAX + 1}",
        f"{U}:1-{GNO_MAX + 1}",
        f"{U}:1:",
        f"{U}::1",
        f"{U}:1a:3",
        f"{U}:{'a' * 33}:3",
        f"{U}:1 2",
        f"{U}:1-2-3",
        f"{U}:1-",
        f"{U}:+1",
        f"{U}:drc",
        f"{U}:1-2:drc",
        f"{U}:1{U}:2",
        "garbage",
    ],
)
def test_set_refuses(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GtidSet.parse(text)
    assert "gtid_executed" in caught.value.hint


def test_parts() -> None:
    both = GtidSet.parse(f"{U}:1-3:drc:4-5,{V}:drc:1")
    assert str(both.with_tag("drc")) == f"{U}:drc:4-5,{V}:drc:1"
    assert str(both.with_tag("")) == f"{U}:1-3"
    assert str(both.of_uuids({RAW_V})) == f"{V}:drc:1"
    assert list(both.intervals()) == [
        (RAW_U, "", 1, 4),
        (RAW_U, "drc", 4, 6),
        (RAW_V, "drc", 1, 2),
    ]
    both.with_tag("drc").add(Gtid(RAW_U, 6, "drc"))
    assert len(both) == 6  # a part is a copy


def test_a_copy_is_independent() -> None:
    one = GtidSet.parse(f"{U}:1-3")
    two = one.copy()
    three = GtidSet() | one
    two.add(Gtid(RAW_U, 4))
    three.add(Gtid(RAW_U, 5))
    assert (str(one), str(two), str(three)) == (f"{U}:1-3", f"{U}:1-4", f"{U}:1-3:5")


def test_empty_is_false_and_huge_is_true() -> None:
    assert not GtidSet()
    assert not GtidSet.parse(f"{U}:1-5") - GtidSet.parse(f"{U}:1-9")
    assert GtidSet.parse(f"{U}:1-{GNO_MAX},{V}:1-{GNO_MAX}")


def test_untagged_bytes() -> None:
    """Compare with Gtid_set::encode as before tags existed, written out by hand."""
    expected = (
        (2).to_bytes(8, "little")
        + RAW_U
        + (2).to_bytes(8, "little")
        + b"".join(n.to_bytes(8, "little") for n in (1, 4, 6, 7))
        + RAW_V
        + (1).to_bytes(8, "little")
        + b"".join(n.to_bytes(8, "little") for n in (9, 10))
    )
    assert GtidSet.parse(f"{U}:1-3:6,{V}:9").encode() == expected
    assert str(GtidSet.decode(expected)) == f"{U}:1-3:6,{V}:9"


def test_tagged_bytes() -> None:
    expected = (
        b"\x01\x02\x00\x00\x00\x00\x00\x01"
        + (RAW_U + b"\x00" + (1).to_bytes(8, "little"))
        + ((1).to_bytes(8, "little") + (4).to_bytes(8, "little"))
        + (RAW_U + b"\x06drc" + (1).to_bytes(8, "little"))
        + ((2).to_bytes(8, "little") + (3).to_bytes(8, "little"))
    )
    assert GtidSet.parse(f"{U}:1-3:drc:2").encode() == expected
    assert str(GtidSet.decode(expected)) == f"{U}:1-3:drc:2"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01" + bytes(7),
        bytes(9),
        bytes(8) + b"x",
        b"\x01\x01\x00\x00\x00\x00\x00\x01" + RAW_U + b"\x41",
        b"\x01\x01\x00\x00\x00\x00\x00\x01" + RAW_U + b"\x02\xff" + bytes(8),
        b"\x01\x01\x00\x00\x00\x00\x00\x01" + RAW_U + b"\x02A" + bytes(8),
        b"\x01\0\0\0\0\0\0\0" + RAW_U + b"\x01\0\0\0\0\0\0\0" + b"\x05\0\0\0\0\0\0\0" * 2,
    ],
)
def test_decode_refuses(data: bytes) -> None:
    with pytest.raises(InvariantError):
        GtidSet.decode(data)
