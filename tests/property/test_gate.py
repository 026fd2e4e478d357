"""The gate under any damage to a topic: each transaction once, in order, without a gap."""

from __future__ import annotations

import random
import struct
import zlib
from collections import Counter

import pytest

from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.clock import Mark
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.kafka import frames
from drc.kafka.frames import Assembler, FrameEncoder, FrameId, decode_chunk, decode_frame
from drc.kafka.gate import GapError, Gate, Torn
from drc.testing.binlog import FakeBinlog, FakeTable

CASES = 10_000
TABLE = FakeTable(7, "shop", "users")
STREAM = "shop/a"


def history() -> tuple[bytes, list[RawTransaction]]:
    """Return a format description and a binlog of small and large transactions, in parts."""
    log = FakeBinlog()
    out: list[RawTransaction] = []
    for key in range(40):
        rows = 30 if key % 7 == 3 else 1
        changes = [(ev.WRITE_ROWS, [TABLE.image(key * 100 + i, b"x" * 40)]) for i in range(rows)]
        log.transaction(TABLE, changes, commit_us=key)
    framer = Framer(out.extend, stream_bytes=2000)
    framer.feed(bytes(log.data))
    assert any(not t.whole for t in out)
    return framer.format_description, out


FORMAT, HISTORY = history()


def content(transaction: RawTransaction) -> tuple[object, ...]:
    data = bytes(transaction.data)
    events = [data[at : at + ev.u32(data, at + 9)[0]] for at in transaction.events]
    return transaction.gtid, transaction.part, transaction.last, transaction.commit_us, *events


WANTED = [content(t) for t in HISTORY]


def publish(rng: random.Random, epoch: int, start: int, stop: int) -> list[list[bytes]]:
    """Return the messages of a publisher's frames from transaction ``start`` on."""
    encoder = FrameEncoder(STREAM, rng.choice([150, 700, 100_000]), compress=rng.random() < 0.5)
    session, covered = rng.randbytes(8), GtidSet()
    for transaction in HISTORY[:start]:
        covered.add(transaction.gtid)
    at, seq, out = (
        start,
        1,
        [list(encoder.encode(FrameId(epoch, session, 0), FORMAT, covered, [], Mark()))],
    )
    while at < stop:
        end = min(stop, at + rng.choice([0, 1, 1, 2, 9]))
        for transaction in HISTORY[at:end]:
            covered.add(transaction.gtid)
        frame = encoder.encode(
            FrameId(epoch, session, seq), FORMAT, covered, HISTORY[at:end], Mark()
        )
        out.append(list(frame))
        at, seq = end, seq + 1
    return out


def whole_before(index: int) -> int:
    """Return the index at which the transaction with part ``index`` begins."""
    while index < len(HISTORY) and HISTORY[index].part:
        index -= 1
    return index


def topic(rng: random.Random) -> list[bytes]:
    """Return the messages of 1 to 3 publishers, each in place of the publisher before."""
    out: list[bytes] = []
    epoch, at = 1, 0
    for _ in range(rng.randrange(3)):
        stop = rng.randint(at, len(HISTORY))
        frames = publish(rng, epoch, at, stop)
        zombie = [m for frame in frames[len(frames) - rng.randrange(3) :] for m in frame]
        out += [m for frame in frames for m in frame]
        if rng.random() < 0.3:  # the publisher died inside a frame
            del out[len(out) - rng.randrange(len(frames[-1])) :]
            stop = max(at, stop - rng.randrange(10))
        at, epoch = whole_before(stop), epoch + 1
        hello = publish(rng, epoch, at, at)[0]
        out += hello
        if rng.random() < 0.3:
            out += zombie
        epoch += 1
    return out + [m for frame in publish(rng, epoch, at, len(HISTORY)) for m in frame]


class Target:
    """The applier behind the gate: parts become visible with the last part."""

    def __init__(self) -> None:
        self.applied: list[tuple[object, ...]] = []
        self.ledger = GtidSet()
        self._parts: list[RawTransaction] = []

    def apply(self, transactions: list[RawTransaction]) -> None:
        for transaction in transactions:
            assert transaction.part == len(self._parts), "a part is missing"
            self._parts.append(transaction)
            if transaction.last:
                self.applied += map(content, self._parts)
                self.ledger.add(transaction.gtid)
                self._parts = []

    def roll_back(self) -> None:
        self._parts = []

    def fill(self, missing: GtidSet) -> None:
        """Read the origin's binlog until all of ``missing`` is applied."""
        self.roll_back()
        for transaction in HISTORY:
            if not missing - self.ledger:
                return
            if transaction.gtid not in self.ledger:
                self.apply([transaction])


def consume(messages: list[bytes]) -> tuple[Target, Counter[str]]:
    """Take a topic to the end, as the sessions of a stream do."""
    target, counts = Target(), Counter[str]()
    torn: Torn = set()
    for _ in range(200):
        gate = Gate(STREAM, target.ledger, torn)
        try:
            for message in messages:
                target.apply(gate.take(message))
            break
        except GapError as gap:
            target.fill(gap.missing)
        except TransientError:
            target.roll_back()
        finally:
            counts.update(gate.counts)
    else:
        pytest.fail("the sessions do not come to an end")
    return target, counts


def spoil(rng: random.Random, messages: list[bytes]) -> tuple[list[bytes], str]:
    """Do a single kind of harm; return the fates that may be counted, separated by spaces."""
    out, at = list(messages), rng.randrange(len(messages))
    match rng.choice(["nothing", "flip", "cut", "swap", "twice", "old", "foreign", "lose"]):
        case "flip":
            bits = bytearray(out[at])
            bits[rng.randrange(len(bits))] ^= 1 << rng.randrange(8)
            out[at] = bytes(bits)
            return out, "corrupt foreign"
        case "cut":
            out[at] = out[at][: rng.randrange(len(out[at]))]
            return out, "truncated corrupt"
        case "swap":
            other = rng.randrange(len(out))
            out[at], out[other] = out[other], out[at]
        case "twice":
            out.insert(rng.randint(at + 1, min(at + 3, len(out))), out[at])
            return out, "duplicate old_epoch replayed torn"
        case "old":
            late = rng.randrange(at, len(out)) + 1
            out[late:late] = out[at : at + rng.randint(1, 4)]
            return out, "duplicate old_epoch replayed torn"
        case "foreign":
            out.insert(at, rng.randbytes(rng.randrange(200)))
            return out, "foreign truncated"
        case "lose":
            del out[at]
    return out, ""


@pytest.mark.parametrize("block", range(10))
def test_spoiled_topics(block: int) -> None:
    seen: Counter[str] = Counter()
    for case in range(CASES // 10):
        rng = random.Random(block * CASES + case)
        messages, kinds = spoil(rng, topic(rng))
        target, counts = consume(messages)
        assert target.applied == WANTED[: len(target.applied)], f"case {block}, {case}"
        if kinds:
            assert any(counts[k] for k in kinds.split()), f"case {block}, {case}: {counts}"
        target.fill(GtidSet.parse(f"{'aa' * 16}:1-40"))  # a gap that the next idle frame shows
        assert target.applied == WANTED, f"case {block}, {case}"
        seen.update(counts)
    assert all(
        seen[kind] for kind in ["accepted", "duplicate", "old_epoch", "corrupt", "torn", "gap"]
    )


# ---------------------------------------------------------------- rules that chance does not meet


def messages_of(
    count: int, *, stream: str = STREAM, fde: bytes = FORMAT, seq: int = 0, size: int = 10_000
) -> list[bytes]:
    """Return the messages of a frame with the first ``count`` transactions of the history."""
    covered = GtidSet()
    for transaction in HISTORY[:count]:
        covered.add(transaction.gtid)
    encoder = FrameEncoder(stream, size, compress=False)
    return list(encoder.encode(FrameId(1, b"x" * 8, seq), fde, covered, HISTORY[:count], Mark()))


def fates(*messages: bytes) -> dict[str, int]:
    gate = Gate(STREAM, GtidSet(), set())
    passed = [t for message in messages for t in gate.take(message)]
    assert bool(passed) is bool(gate.counts["accepted"])
    return dict(gate.counts)


def test_a_frame_of_another_stream_is_dropped() -> None:
    assert fates(*messages_of(1, stream="shop/b")) == {"foreign": 1}


def test_a_message_of_another_version_is_dropped() -> None:
    (message,) = messages_of(1)
    crc_at = 34
    newer = message[:4] + b"\x02" + message[5:crc_at]
    crc = zlib.crc32(message[crc_at + 4 :], zlib.crc32(newer))
    assert fates(newer + struct.pack("<I", crc) + message[crc_at + 4 :]) == {"version": 1}


def test_a_frame_without_its_first_chunk_is_dropped() -> None:
    _, *others = messages_of(1, size=100)
    assert fates(*others) == {"torn": len(others)}


def test_a_frame_without_end_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_FRAME_BYTES_MAX", 200)
    assert fates(*messages_of(1, size=100))["oversized"] == 1


def test_events_of_another_format_are_not_mixed_in() -> None:
    newer = FORMAT[:60] + b"8" + FORMAT[61:]
    gate = Gate(STREAM, GtidSet(), set())
    for message in messages_of(1):
        assert gate.take(message)
    with pytest.raises(TransientError, match="format"):
        gate.take(messages_of(2, fde=newer, seq=1)[0])


def test_a_large_transaction_is_complete_with_its_last_part_only() -> None:
    """Check a publisher that died inside a transaction: the successor sends the whole again."""
    inside = next(i for i, t in enumerate(HISTORY) if not t.last) + 1
    whole = Assembler(Counter()).take(decode_chunk(messages_of(inside)[0]))
    assert whole is not None
    frame = decode_frame(whole)
    large = HISTORY[inside - 1].gtid
    assert large in frame.covered
    assert large not in frame.complete
    assert not frame.before
