"""Frames: transactions as messages of a topic. Pure; docs/reference/frames.md has the format.

A frame holds whole transactions, or a part of a large transaction, as the events that MySQL wrote.
A frame travels as a single message or, when a message cannot be that long, as several chunks.

1. Only complete and unchanged messages are accepted: magic and CRC are checked before any other
   field is used.
2. Each frame names the place that the frame continues: a publisher numbers the frames within an
   *epoch* of its own, and ``covered`` is every GTID of the origin that the stream has carried,
   this frame included.
3. Events reach the reader byte for byte as the source wrote them, checksums included: this module
   copies events and decodes none.

``gate.py`` decides which messages of a series may pass.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import zstandard
from isal.isal_zlib import crc32

from drc.binlog.events import u32
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.clock import Clock, Mark, decode_seen, encode_seen
from drc.errors import DrcError
from drc.gtid import Gtid, GtidSet

_MAGIC = b"DRCF"
_VERSION = 1
# magic, version, zero, number of this chunk, chunks, epoch, session, frame in the epoch, CRC
_HEAD = struct.Struct("<4sBBHHQ8sQI")
_CRC_AT = _HEAD.size - 4
# lengths of stream name, format description, covered set and seen; ets after the frame;
# transactions; bytes of the body
_META = struct.Struct("<HHIIQIQ?")
# kind, last, checksum bytes, lengths of tag, XID and learned; part, commit time, ets, UUID, number,
# size, bytes of events
_TRANSACTION = struct.Struct("<BBBBHIIQQ16sQQI")

_KINDS = tuple(TransactionKind)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}

# Below this size zstd costs more time than sending the saved bytes would.
_COMPRESS_BYTES_MIN = 512
_CHUNKS_MAX = 0xFFFF
_FRAME_BYTES_MAX = (1 << 30) + (1 << 20)  # the server's largest packet, and its envelope
_LARGE_BYTES = 1 << 20  # above this size, a view costs less than the copy that the view saves


class _Thread(threading.local):
    """A decompressor for each thread: creating one costs more than decoding a small frame."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdDecompressor()


_thread = _Thread()


class FrameError(Exception):
    """A message that cannot be used; ``fate`` is the word under which the message is counted."""

    def __init__(self, fate: str) -> None:
        super().__init__(fate)
        self.fate = fate


class FrameId(NamedTuple):
    """The publisher and the number of a frame: orderable within an epoch and session."""

    epoch: int
    session: bytes
    seq: int


class Chunk(NamedTuple):
    """A message: chunk ``number`` of ``chunks`` of a frame, counted from 0."""

    frame_id: FrameId
    number: int
    chunks: int
    payload: memoryview


class Frame(NamedTuple):
    """The content of a frame, joined from the chunks.

    ``format`` is the source's format description event, by which the events are decoded;
    ``covered`` contains a large transaction from the first part on; ``mark`` is the origin's clock
    after the frame.
    """

    stream: str
    format: bytes
    covered: GtidSet
    transactions: list[RawTransaction]
    mark: Mark

    @property
    def complete(self) -> GtidSet:
        """Return the GTIDs not to read again if the stream ends with this frame."""
        return self.covered - GtidSet.of(t.gtid for t in self.transactions[-1:] if not t.last)

    @property
    def before(self) -> GtidSet:
        """Return the covered set without the transactions of this frame."""
        return self.covered - GtidSet.of(t.gtid for t in self.transactions)


def mark_after(before: Mark, transactions: Sequence[RawTransaction]) -> Mark:
    """Return the clock after a frame: after the last transaction that the frame completes."""
    unfinished = transactions[-1].gtid if transactions and not transactions[-1].last else None
    return next((t.mark for t in reversed(transactions) if t.gtid != unfinished), before)


class FrameEncoder:
    """Encode the frames of a stream.

    :param message_bytes: the length of the longest message to produce.
    """

    def __init__(self, stream: str, message_bytes: int, *, compress: bool = True) -> None:
        self._stream = stream.encode()
        self._payload = message_bytes - _HEAD.size
        self._zstd = zstandard.ZstdCompressor(level=1) if compress else None

    def encode(
        self,
        frame_id: FrameId,
        fde: bytes,
        covered: GtidSet,
        transactions: Sequence[RawTransaction],
        before: Mark,
    ) -> Iterator[bytes]:
        """Yield the messages of a frame, in order.

        :param fde: the source's format description event.
        :param before: the origin's clock before the first of ``transactions``.
        :raises DrcError: the frame needs more messages than a frame may have.
        """
        body = _encode_body(transactions)
        packed = self._zstd is not None and len(body) >= _COMPRESS_BYTES_MIN
        size = len(body)
        if packed and self._zstd:
            body = self._zstd.compress(body)
        known, seen = covered.encode(), encode_seen(before.seen).encode()
        ets = mark_after(before, transactions).ets
        lengths = len(self._stream), len(fde), len(known), len(seen)
        meta = _META.pack(*lengths, ets, len(transactions), size, packed)
        return self._cut(frame_id, b"".join((meta, self._stream, fde, known, seen, body)))

    def _cut(self, frame_id: FrameId, whole: bytes) -> Iterator[bytes]:
        count = -(-len(whole) // self._payload)
        if count > _CHUNKS_MAX:
            raise DrcError(
                f"a frame of {len(whole)} bytes does not fit into {_CHUNKS_MAX} messages",
                hint="raise kafka.message_bytes_max and the broker's message.max.bytes",
            )
        view = memoryview(whole)
        for number in range(count):
            piece = view[number * self._payload : (number + 1) * self._payload]
            yield encode_chunk(Chunk(frame_id, number, count, piece))


def encode_chunk(chunk: Chunk) -> bytes:
    """Return the message of a chunk."""
    epoch, session, seq = chunk.frame_id
    head = _HEAD.pack(_MAGIC, _VERSION, 0, chunk.number, chunk.chunks, epoch, session, seq, 0)[
        :_CRC_AT
    ]
    crc = crc32(chunk.payload, crc32(head))
    return b"".join((head, crc.to_bytes(4, "little"), chunk.payload))


def decode_chunk(message: bytes) -> Chunk:
    """Check a message and return the chunk in the message.

    :raises FrameError: ``truncated``, ``foreign``, ``version`` or ``corrupt``.
    """
    if message[:4] != _MAGIC[: len(message)]:
        raise FrameError("foreign")
    if len(message) < _HEAD.size:
        raise FrameError("truncated")
    _, version, _, number, count, epoch, session, seq, crc = _HEAD.unpack_from(message)
    payload = memoryview(message)[_HEAD.size :]
    if crc32(payload, crc32(message[:_CRC_AT])) != crc:
        raise FrameError("corrupt")
    if version != _VERSION:
        raise FrameError("version")
    return Chunk(FrameId(epoch, session, seq), number, count, payload)


class Assembler:
    """Join chunks to frames.

    :param counts: counts as ``torn`` each frame whose remaining chunks did not come.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._held: list[Chunk] = []
        self._bytes = 0
        self._counts = counts

    def take(self, chunk: Chunk) -> bytes | memoryview | None:
        """Return the frame that this chunk completes; None while chunks are missing.

        :raises FrameError: ``torn``, ``duplicate`` or ``oversized``.
        """
        held = self._held
        if held and (held[0].frame_id, held[0].chunks) != (chunk.frame_id, chunk.chunks):
            self._counts["torn"] += 1
            self._clear()
        if chunk.number < len(held):
            raise FrameError("duplicate")
        if chunk.number > len(held):
            self._clear()
            raise FrameError("torn")
        if chunk.chunks == 1:
            return chunk.payload
        held.append(chunk)
        self._bytes += len(chunk.payload)
        if self._bytes > _FRAME_BYTES_MAX:
            self._clear()
            raise FrameError("oversized")
        if len(held) < chunk.chunks:
            return None
        whole = b"".join(c.payload for c in held)
        self._clear()
        return whole

    def _clear(self) -> None:
        self._held.clear()
        self._bytes = 0


def decode_covered(chunk: Chunk) -> GtidSet | None:
    """Return the covered set from the first chunk of a frame; None for any other chunk.

    :raises FrameError: ``corrupt``.
    """
    if chunk.number:
        return None
    try:
        name, fde, known, *_ = _META.unpack_from(chunk.payload)
        at = _META.size + name + fde
        return GtidSet.decode(bytes(chunk.payload[at : at + known]))
    except (struct.error, DrcError) as error:
        raise FrameError("corrupt") from error


def decode_frame(whole: bytes | memoryview) -> Frame:
    """Decode a frame from the joined payloads of the chunks.

    :raises FrameError: ``corrupt``, although every CRC was right.
    """
    try:
        return _decode_frame(whole)
    except (struct.error, IndexError, UnicodeDecodeError, DrcError, zstandard.ZstdError) as error:
        raise FrameError("corrupt") from error


def _decode_frame(whole: bytes | memoryview) -> Frame:
    name, fde, known, seen, ets, count, size, packed = _META.unpack_from(whole)
    at = _META.size
    stream = bytes(whole[at : at + name]).decode()
    at += name
    form = bytes(whole[at : at + fde])
    at += fde
    covered = GtidSet.decode(bytes(whole[at : at + known]))
    at += known
    clock = Clock(Mark(ets, decode_seen(bytes(whole[at : at + seen]).decode())))
    body = whole[at + seen :]
    if packed:
        body = _thread.zstd.decompress(body, max_output_size=size)
    if len(body) != size:
        raise FrameError("corrupt")
    transactions = _decode_body(bytes(body), count, clock)
    return Frame(stream, form, covered, transactions, clock.mark)


# ---------------------------------------------------------------- transactions


def _encode_body(transactions: Sequence[RawTransaction]) -> bytes:
    out: list[bytes | memoryview] = []
    for t in transactions:
        uuid, gno, tag = t.gtid
        view = memoryview(t.data) if t.size > _LARGE_BYTES else t.data
        events = [view[at : at + u32(view, at + 9)[0]] for at in t.events]
        size = sum(map(len, events))
        named, xid = tag.encode(), t.xid
        learned = "=".join(t.learned).encode() if t.learned else b""
        out.append(
            _TRANSACTION.pack(
                _CODES[t.kind],
                t.last,
                t.checksum,
                len(named),
                len(xid),
                len(learned),
                t.part,
                t.commit_us,
                t.ets,
                uuid,
                gno,
                t.size,
                size,
            )
        )
        if named or xid or learned:
            out += (named, xid, learned)
        out += events
    return b"".join(out)


def _decode_body(body: bytes, count: int, clock: Clock) -> list[RawTransaction]:
    """Decode the transactions; ``clock`` stands before the first and moves with each of them."""
    out: list[RawTransaction] = []
    at, unpack, head = 0, _TRANSACTION.unpack_from, _TRANSACTION.size
    for _ in range(count):
        (kind, last, checksum, tag, xid, news, part, commit_us, ets, uuid, gno, size, length) = (
            unpack(body, at)
        )
        at += head
        named, named_xid, learned = "", b"", None
        if tag or xid or news:
            named, named_xid = body[at : at + tag].decode(), body[at + tag : at + tag + xid]
            at += tag + xid
            if news:
                origin, _, decided = body[at : at + news].decode().partition("=")
                learned = origin, decided
                clock.replicated(origin, GtidSet.parse(decided), ets)
                at += news
        end = at + length
        events: list[int] = []
        while at < end:
            events.append(at)
            at += u32(body, at + 9)[0] or length + 1  # a length of 0 would loop for ever
        if at != end:
            raise FrameError("corrupt")
        transaction = RawTransaction(
            Gtid(uuid, gno, named),
            commit_us,
            body,
            events,
            size,
            checksum,
            _KINDS[kind],
            named_xid,
        )
        transaction.part, transaction.last = part, bool(last)
        transaction.ets, transaction.seen, transaction.learned = ets, clock.seen, learned
        out.append(transaction)
    if at != len(body):
        raise FrameError("corrupt")
    return out
