"""Global transaction identifiers (GTIDs) and sets of GTIDs, with tags.

This file holds :class:`Gtid` and :class:`GtidSet`, the text of both as MySQL writes that text, and
the bytes of a set as the dump command and the PREVIOUS_GTIDS event have those bytes. This file
knows neither servers nor the meaning of a tag.

1. For each pair of UUID and tag, a set holds a flat list of bounds ``[s0, e0, s1, e1, …]``:
   half-open intervals ``[s, e)``. The bounds increase strictly, so neighbours are always merged.
2. No list is empty. So a set is empty exactly when the set has no pairs, and equal sets have
   equal bounds.
3. Closed intervals (``1-5``) exist in text only.

Wrong text is a ConfigError, because text comes from an operator or a ledger; wrong bytes are an
InvariantError.

Sources: MySQL 9.7 manual, "GTID Format and Storage"; MySQL source ``sql/rpl_gtid_set.cc``
(``Gtid_set::encode``, ``add_gtid_text``) and ``libs/mysql/gtid/tag.h``.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import NamedTuple, NoReturn

from drc.errors import ConfigError, InvariantError

GNO_MAX = (1 << 63) - 2  # the bound of MySQL: GNO_END - 1

_uuid_text = re.compile(r"[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}").fullmatch
_tag_text = re.compile(r"[a-z_][a-z0-9_]{0,31}").fullmatch
_interval_text = re.compile(r"([0-9]+)(?:\s*-\s*([0-9]+))?").fullmatch
_u64 = struct.Struct("<Q")
_pair = struct.Struct("<QQ")

Bounds = list[int]
Key = tuple[bytes, str]


def _refuse(text: str) -> NoReturn:
    shown = text if len(text) <= 80 else text[:77] + "..."
    raise ConfigError(
        f"{shown!r} is not a valid GTID set",
        hint="write the set as the server prints @@gtid_executed, e.g."
        " 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7",
    )


@lru_cache(maxsize=256)  # one entry per server of the topology
def format_uuid(uuid: bytes) -> str:
    """Return the text of a UUID of 16 raw bytes as MySQL writes UUIDs, lower case with hyphens."""
    text = uuid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_uuid(text: str) -> bytes:
    """Return the 16 raw bytes of a UUID, written with or without hyphens.

    :raises ConfigError: ``text`` is not a UUID.
    """
    lowered = text.strip().lower()
    if not _uuid_text(lowered):
        _refuse(text)
    return bytes.fromhex(lowered.replace("-", ""))


class Gtid(NamedTuple):
    """The identifier of a transaction.

    ``uuid`` is the server's, 16 raw bytes; ``gno`` counts from 1; ``tag`` is '' without a tag.
    """

    uuid: bytes
    gno: int
    tag: str = ""

    def __str__(self) -> str:
        """Return ``uuid:gno`` or ``uuid:tag:gno``, such as ``3e11fa47-…:drc:7``."""
        tag = f"{self.tag}:" if self.tag else ""
        return f"{format_uuid(self.uuid)}:{tag}{self.gno}"


class GtidSet:
    """A mutable set of GTIDs."""

    __slots__ = ("_bounds",)
    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(self) -> None:
        self._bounds: dict[Key, Bounds] = {}

    @classmethod
    def of(cls, gtids: Iterable[Gtid]) -> GtidSet:
        """Return the set of ``gtids``."""
        out = cls()
        for gtid in gtids:
            out.add(gtid)
        return out

    # ------------------------------------------------------------ changes

    def add(self, gtid: Gtid) -> None:
        """Add ``gtid``.

        The cost is O(1) when the number follows the newest interval of the same UUID and tag.
        """
        uuid, gno, tag = gtid
        try:  # free when the key exists, unlike a call of dict.get
            bounds = self._bounds[uuid, tag]
        except KeyError:
            self._bounds[uuid, tag] = [gno, gno + 1]
            return
        if bounds[-1] == gno:
            bounds[-1] = gno + 1
        else:
            _include(bounds, gno, gno + 1)

    def add_range(self, uuid: bytes, tag: str, start: int, end: int) -> None:
        """Add the numbers from ``start`` up to but not including ``end``."""
        if start < end:
            _include(self._bounds.setdefault((uuid, tag), []), start, end)

    def update(self, other: GtidSet) -> None:
        """Add every GTID of ``other``."""
        for key, theirs in other._bounds.items():
            ours = self._bounds.get(key)
            if ours is None:
                self._bounds[key] = theirs.copy()
            else:
                for start, end in _pairs(theirs):
                    _include(ours, start, end)

    def _remove(self, other: GtidSet) -> None:
        for key, theirs in other._bounds.items():
            ours = self._bounds.get(key)
            if ours is None:
                continue
            for start, end in _pairs(theirs):
                _exclude(ours, start, end)
            if not ours:
                del self._bounds[key]

    # ------------------------------------------------------------ algebra

    def copy(self) -> GtidSet:
        """Return an independent set of the same GTIDs."""
        out = GtidSet()
        out._bounds = {key: bounds.copy() for key, bounds in self._bounds.items()}
        return out

    def __or__(self, other: GtidSet) -> GtidSet:
        out = self.copy()
        out.update(other)
        return out

    def __sub__(self, other: GtidSet) -> GtidSet:
        out = self.copy()
        out._remove(other)
        return out

    def __and__(self, other: GtidSet) -> GtidSet:
        return self - (self - other)

    def __le__(self, other: GtidSet) -> bool:
        """Return whether every GTID of this set is in ``other``."""
        return all(
            (bounds := other._bounds.get(key)) is not None
            and all(_covers(bounds, start, end) for start, end in _pairs(ours))
            for key, ours in self._bounds.items()
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GtidSet):
            return NotImplemented
        return self._bounds == other._bounds

    def __contains__(self, gtid: Gtid) -> bool:
        bounds = self._bounds.get((gtid[0], gtid[2]))
        return bounds is not None and bool(bisect_right(bounds, gtid[1]) & 1)

    def ranges(self, gtid: Gtid) -> Iterator[tuple[int, int]]:
        """Yield the intervals of this set that have the UUID and tag of ``gtid``.

        Each interval is start and end; the end is not included.
        """
        return _pairs(self._bounds.get((gtid.uuid, gtid.tag), []))

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __len__(self) -> int:
        """Return the number of GTIDs; Python raises OverflowError for more than 2**63 - 1."""
        return sum(sum(b[1::2]) - sum(b[::2]) for b in self._bounds.values())

    # ------------------------------------------------------------ parts

    def with_tag(self, tag: str) -> GtidSet:
        """Return the subset with ``tag``; '' returns the GTIDs without a tag."""
        out = GtidSet()
        out._bounds = {k: b.copy() for k, b in self._bounds.items() if k[1] == tag}
        return out

    def of_uuids(self, uuids: AbstractSet[bytes]) -> GtidSet:
        """Return the subset of the servers ``uuids``, with any tag and without."""
        out = GtidSet()
        out._bounds = {k: b.copy() for k, b in self._bounds.items() if k[0] in uuids}
        return out

    def intervals(self) -> Iterator[tuple[bytes, str, int, int]]:
        """Yield (uuid, tag, start, end exclusive), in the order of the text."""
        for (uuid, tag), bounds in sorted(self._bounds.items()):
            for start, end in _pairs(bounds):
                yield uuid, tag, start, end

    # ------------------------------------------------------------ text

    def __str__(self) -> str:
        """Return the text of ``@@gtid_executed`` as a line: ``uuid:1-17:drc:1-4,uuid2:5``."""
        items: list[str] = []
        last = None
        for (uuid, tag), bounds in sorted(self._bounds.items()):
            text = ":".join(
                f"{start}" if start + 1 == end else f"{start}-{end - 1}"
                for start, end in _pairs(bounds)
            )
            if tag:
                text = f"{tag}:{text}"
            if uuid == last:
                items[-1] += f":{text}"
            else:
                items.append(f"{format_uuid(uuid)}:{text}")
            last = uuid
        return ",".join(items)

    def __repr__(self) -> str:
        return f"<GtidSet {str(self) or 'empty'}>"

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Return the set in ``text``, which may have white space, empty items and repetitions.

        MySQL allows the same text, except that a UUID or tag without any number is refused here,
        because such text is a slip rather than an empty set.

        :raises ConfigError: ``text`` is not a GTID set.
        """
        out = cls()
        for item in text.split(","):
            if item.strip():
                out._parse_item(item.lower())
        return out

    def _parse_item(self, item: str) -> None:
        name, *parts = item.split(":")
        uuid, tag = parse_uuid(name), ""
        if not parts:
            _refuse(item)
        for i, raw in enumerate(parts):
            part = raw.strip()
            if match := _interval_text(part):
                start = int(match[1])
                end = int(match[2] or match[1])
                if not 1 <= start <= GNO_MAX or end > GNO_MAX:
                    _refuse(item)
                self.add_range(uuid, tag, start, end + 1)
            elif _tag_text(part) and i + 1 < len(parts):
                tag = part
            else:
                _refuse(item)

    # ------------------------------------------------------------ bytes

    def encode(self) -> bytes:
        """Return the bytes of this set in a COM_BINLOG_DUMP_GTID command.

        The format with tags is used only when the set has a tag, because servers before 8.3 know
        only the format without.
        """
        tagged = any(tag for _, tag in self._bounds)
        count = len(self._bounds)
        out = [_u64.pack(1 | count << 8 | 1 << 56 if tagged else count)]
        for (uuid, tag), bounds in sorted(self._bounds.items()):
            out.append(uuid)
            if tagged:  # a single byte holds the length, shifted: at most 32 characters
                out.append(bytes((len(tag) << 1,)) + tag.encode("ascii"))
            out.append(_u64.pack(len(bounds) // 2))
            out.append(struct.pack(f"<{len(bounds)}Q", *bounds))
        return b"".join(out)

    @classmethod
    def decode(cls, data: bytes) -> GtidSet:
        """Return the set in the bytes of :meth:`encode` or in the body of a PREVIOUS_GTIDS event.

        :raises InvariantError: ``data`` is not a GTID set.
        """
        out = cls()
        try:
            at = out._decode(data)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise InvariantError(f"GTID set of {len(data)} bytes cannot be decoded") from error
        if at != len(data):
            raise InvariantError(f"GTID set ends at byte {at} of {len(data)}")
        return out

    def _decode(self, data: bytes) -> int:
        (head,) = _u64.unpack_from(data)
        tagged = head >> 56 == 1
        count = head >> 8 & (1 << 48) - 1 if tagged else head
        at = 8
        for _ in range(count):
            uuid, tag = bytes(data[at : at + 16]), ""
            at += 16
            if tagged:
                size = data[at] >> 1  # longer tags do not exist
                tag = bytes(data[at + 1 : at + 1 + size]).decode("ascii")
                if data[at] & 1 or (size and not _tag_text(tag)):
                    raise InvariantError(f"GTID set holds the wrong tag {tag!r}")
                at += 1 + size
            (intervals,) = _u64.unpack_from(data, at)
            at += 8
            for _ in range(intervals):
                start, end = _pair.unpack_from(data, at)
                if not 1 <= start < end <= GNO_MAX + 1:
                    raise InvariantError(f"GTID set holds the wrong interval [{start}, {end})")
                self.add_range(uuid, tag, start, end)
                at += 16
        return at


def _pairs(bounds: Bounds) -> Iterator[tuple[int, int]]:
    return zip(bounds[::2], bounds[1::2], strict=True)


def _include(bounds: Bounds, start: int, end: int) -> None:
    """Add [start, end); bounds inside or touching the interval vanish."""
    i, j = bisect_left(bounds, start), bisect_right(bounds, end)
    bounds[i:j] = [start] * (not i & 1) + [end] * (not j & 1)


def _exclude(bounds: Bounds, start: int, end: int) -> None:
    """Remove [start, end)."""
    i, j = bisect_left(bounds, start), bisect_right(bounds, end)
    bounds[i:j] = [start] * (i & 1) + [end] * (j & 1)


def _covers(bounds: Bounds, start: int, end: int) -> bool:
    i = bisect_right(bounds, start)
    return bool(i & 1) and end <= bounds[i]
