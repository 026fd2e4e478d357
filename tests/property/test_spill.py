"""The index with a spill: answers as an index that holds everything, for any history."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc.clock import NOTHING, Seen
from drc.conflict.index import WindowIndex
from drc.conflict.segment import FileSegment
from drc.conflict.spill import Segment, Spill
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS
from drc.testing.segment import MemorySegment

SLOTS = (0, 1, 2, 3, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
COLUMNS = (0, 1, 6, 1 << 62, 1 << 63, 1 << 64, 1 << 4095, ALL_COLUMNS)
SITES = "abc"


class History:
    """Random events at ``a``, for an index that is large enough and for an index that spills."""

    def __init__(self, rng: random.Random, spill: Spill, sites: str) -> None:
        self._rng, self._spill, self._sites = rng, spill, sites
        self._written: dict[str, list[Gtid]] = {name: [] for name in sites}
        self._frontier: dict[str, Seen] = {name: {} for name in sites}
        self._whole = WindowIndex("a", sites, 1 << 20)
        self._small = WindowIndex("a", sites, rng.randint(1, 8), spill)
        self.blind = self.spilled = 0

    def step(self) -> None:
        self._rng.choice((self._record, self._record, self._record, self._advance, self._ask))()
        if self._rng.random() < 0.01:
            self._forget()
        self.spilled = max(self.spilled, self._spill.slots)

    def _record(self) -> None:
        name, rng = self._rng.choice(self._sites), self._rng
        written = self._written[name]
        if not written or rng.random() < 0.8:  # else another part of the newest transaction
            gno = written[-1].gno + rng.randint(1, 2) if written else 1
            written.append(Gtid(name.encode() * 16, gno, rng.choice(("", "t"))))
        slots = rng.sample(SLOTS, rng.randint(0, 4))
        columns = {slot: rng.choice(COLUMNS) for slot in slots if rng.random() < 0.5}
        for index in (self._whole, self._small):
            index.record(name, written[-1], written[-1].gno * 10, slots, columns)

    def _advance(self) -> None:
        peer = self._rng.choice(self._sites[1:])
        self._frontier[peer] = self._seen(peer)
        for index in (self._whole, self._small):
            index.advance(peer, self._frontier[peer])

    def _forget(self) -> None:
        gtids = GtidSet.of(self._rng.sample(self._written["a"], 1))
        for index in (self._whole, self._small):
            index.forget(gtids)

    def _ask(self) -> None:
        peer = self._rng.choice(self._sites[1:])
        seen, slots = self._seen(peer), self._rng.sample(SLOTS, self._rng.randint(1, 5))
        wanted = self._whole.rivals(peer, seen, slots)
        found = self._small.rivals(peer, seen, slots)
        if found.blind:  # the index may have lost a part of a transaction
            self.blind += not wanted.blind
            assert {w.gtid for w in found.writes} <= {w.gtid for w in wanted.writes}
        else:
            assert found == wanted
        if self._small.clean(peer, seen, frozenset(slots)):
            assert not wanted.writes
            assert not wanted.blind

    def _seen(self, peer: str) -> Seen:
        """Return seen sets for a transaction of ``peer``: at least the frontier of ``peer``."""
        out = {}
        for name in self._sites:
            known = self._frontier[peer].get(name, NOTHING).copy()
            written = self._written[name]
            if self._rng.random() < 0.7:
                known.update(GtidSet.of(written[: self._rng.randint(0, len(written))]))
            else:  # not a prefix
                known.update(GtidSet.of(g for g in written if self._rng.random() < 0.5))
            out[name] = known
        return out


def history(seed: int, spill: Spill, sites: str) -> History:
    out = History(random.Random(seed), spill, sites)
    out._record()
    while not out._written["a"]:
        out._record()
    for _ in range(60):
        out.step()
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spill")


@given(st.integers(0), st.sampled_from((SITES[:2], SITES)), st.sampled_from((64, 1000)))
@settings(max_examples=300, deadline=None)
def test_what_is_spilled_is_found_as_if_it_were_not(seed: int, sites: str, most: int) -> None:
    """Check two sizes: with 64, segments end after 4 slots; a history has fewer than 1000."""
    spill = Spill(most, MemorySegment)
    found = history(seed, spill, sites)
    assert most == 64 or not found.blind


@given(st.integers(0), st.sampled_from((SITES[:2], SITES)), st.sampled_from((1 << 17, 1 << 30)))
@settings(max_examples=60, deadline=None)
def test_files_answer_alike(folder: Path, seed: int, sites: str, most: int) -> None:
    """Check files of 5 pages: with 2**17 bytes, each file is sealed at once and the oldest go."""
    spill = Spill(most, lambda: FileSegment(folder))
    try:
        assert not history(seed, spill, sites).blind or most < 1 << 30
        assert not list(folder.iterdir())
    finally:
        spill.clear()


@given(st.integers(0), st.sampled_from((SITES[:2], SITES)), st.floats(0, 0.3))
@settings(max_examples=200, deadline=None)
def test_segments_that_break_make_blind_and_not_wrong(seed: int, sites: str, often: float) -> None:
    rng = random.Random(seed)

    def segment() -> Segment:
        made = MemorySegment()
        made.broken = rng.random() < often
        return made

    history(seed, Spill(1000, segment), sites)


def test_such_histories_do_spill_and_do_forget() -> None:
    spilled = [history(seed, Spill(1000, MemorySegment), SITES).spilled for seed in range(20)]
    blind = [history(seed, Spill(16, MemorySegment), SITES).blind for seed in range(20)]
    assert min(spilled) > 0
    assert sum(blind) > 0
