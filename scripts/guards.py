"""Remove each safety guard in a copy of the tree and see the test that is there for it fail.

``make guards``. A guard whose removal no test notices is the only finding; then the exit code is 1.
Without servers but for the last few; about ten minutes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 240


class Guard(NamedTuple):
    """What is promised, the text that guards it, what stands there without, and the tests."""

    promise: str
    file: str
    text: str
    without: str
    tests: str


_UNIT, _PROPERTY = "tests/unit", "tests/property"
GUARDS = (
    Guard(
        "a tagged transaction is not shipped again",
        "drc/source/tagger.py",
        "gtid.tag == TAG or ",
        "",
        f"{_UNIT}/source/test_tagger.py",
    ),
    Guard(
        "another site's GTID is not shipped again",
        "drc/source/tagger.py",
        "gtid.uuid in foreign or ",
        "",
        f"{_UNIT}/source/test_tagger.py",
    ),
    Guard(
        "a transaction that begins with the ledger is not shipped again",
        "drc/source/tagger.py",
        " or _begins_in_drc(transaction)",
        "",
        f"{_UNIT}/source/test_tagger.py",
    ),
    Guard(
        "a branch begins between two transactions",
        "drc/pipe/tee.py",
        "self._whole = transactions[-1].last",
        "self._whole = True",
        f"{_UNIT}/pipe/test_tee.py",
    ),
    Guard(
        "a branch begins where all that was published is read",
        "drc/pipe/tee.py",
        "            and taken <= self._already_read\n",
        "",
        f"{_UNIT}/pipe/test_tee.py",
    ),
    Guard(
        "what a branch has is not read beside it",
        "drc/kafka/feed.py",
        "return transactions[:number]",
        "return transactions",
        f"{_UNIT}/kafka/test_feed.py",
    ),
    Guard(
        "a publisher does not go over to a branch inside a transaction",
        "drc/kafka/feed.py",
        "self._whole = out[-1].last",
        "self._whole = True",
        f"{_UNIT}/kafka/test_feed.py",
    ),
    Guard(
        "a canary lands: it alone of our tables is shipped",
        "drc/source/tagger.py",
        "return data[at + 27 : at + 40] != _CANARY",
        "return True",
        f"{_UNIT}/worker/test_canary.py",
    ),
    Guard(
        "a canary that comes back is noticed",
        "drc/worker/canary.py",
        "if one.site == self._origin:",
        "if True:",
        f"{_UNIT}/worker/test_canary.py",
    ),
    Guard(
        "no part of a large replicated transaction is shipped",
        "drc/source/tagger.py",
        "skip = self._skipping",
        "skip = False",
        f"{_UNIT}/source/test_tagger.py",
    ),
    Guard(
        "a damaged event is noticed",
        "drc/binlog/framing.py",
        "crc32(view[at:end]) != _CRC_RESIDUE",
        "crc32(view[at:end]) == -1",
        f"{_UNIT}/binlog/test_framing.py",
    ),
    Guard(
        "an unknown event inside a transaction stops the stream",
        "drc/binlog/framing.py",
        "elif not u16(buf, at + 17)[0] & ev.IGNORABLE_FLAG:\n            raise DataError(",
        "elif False:\n            raise DataError(",
        f"{_UNIT}/binlog/test_framing.py",
    ),
    Guard(
        "what was purged and is needed is named",
        "drc/source/resume.py",
        "    if missing:\n",
        "    if False:\n",
        f"{_UNIT}/source/test_resume.py",
    ),
    Guard(
        "a source that lost transactions is named",
        "drc/source/resume.py",
        "    if lost:\n",
        "    if False:\n",
        f"{_UNIT}/source/test_resume.py",
    ),
    Guard(
        "net rows never pass through a duplicate unique key",
        "drc/rows/netting.py",
        "        if old == new:\n",
        "        if True:\n",
        f"{_PROPERTY}/test_netting.py",
    ),
    Guard(
        "rows of two definitions of a table are not netted together",
        "drc/rows/netting.py",
        "elif net.table is not table:",
        "elif False:",
        f"{_UNIT}/apply/test_batch.py {_PROPERTY}/test_netting.py",
    ),
    Guard(
        "a partial image is not netted",
        "drc/rows/netting.py",
        "if data[at + 27 : first] not in table.update_heads:",
        "if False:",
        f"{_UNIT}/apply/test_batch.py {_PROPERTY}/test_netting.py",
    ),
    Guard(
        "keys that the server takes for equal share a slot",
        "drc/rows/slots.py",
        "return _after(prefix_bytes(column), text) if text else unknown",
        "return stored",
        f"{_UNIT}/rows/test_slots.py",
    ),
    Guard(
        "batches that share a key do not run at once",
        "drc/apply/conveyor.py",
        "if not self._turn(lambda: self._may_run(batch)):",
        "if False:",
        f"{_UNIT}/apply/test_conveyor.py",
    ),
    Guard(
        "batches commit in the origin's order",
        "drc/apply/conveyor.py",
        "if not self._turn(lambda: self._committed == seq - 1):",
        "if False:",
        f"{_UNIT}/apply/test_conveyor.py",
    ),
    Guard(
        "what was read before a log ended is committed",
        "drc/apply/feeder.py",
        "            if self._conveyor.drain():\n                raise",
        "            raise",
        f"{_UNIT}/apply/test_feeder.py",
    ),
    Guard(
        "what was only skipped writes nothing to the ledger",
        "drc/apply/batch.py",
        "            return None  # recording",
        "            pass  # recording",
        f"{_UNIT}/apply/test_batch.py",
    ),
    Guard(
        "no transaction passes the gate twice",
        "drc/kafka/gate.py",
        "if gtid in self._already_decided:",
        "if False:",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "none is passed over at the gate",
        "drc/kafka/gate.py",
        "if missing := frame.before - self._already_decided:",
        "if missing := GtidSet():",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "a replaced publisher's frames are dropped",
        "drc/kafka/gate.py",
        "if frame_id.epoch < last.epoch:",
        "if False:",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "a large transaction passes the gate whole",
        "drc/kafka/gate.py",
        "if self._open is None or self._open[1:] != (gtid, part):",
        "if False:",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "a damaged message is dropped",
        "drc/kafka/frames.py",
        "!= crc:",
        "== -1:",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "metrics are told to nobody without the token",
        "drc/web/app.py",
        "if not token or (right and",
        "if not token or (True or",
        f"{_UNIT}/web/test_app.py",
    ),
    Guard(
        "without a token only this host may ask",
        "drc/config.py",
        "        _refuse_open_door(config, name)\n",
        "",
        f"{_UNIT}/test_config.py",
    ),
    Guard(
        "a daemon is not ready while a stream does not run",
        "drc/web/app.py",
        'set(states.values()) == {"running"}',
        '"running" in states.values()',
        f"{_UNIT}/web/test_app.py",
    ),
    Guard(
        "a certificate waits until the index has all earlier writers",
        "drc/conflict/certifier.py",
        "if not self.index.wait_for(end, _BARRIER_S):",
        "if False:",
        f"{_UNIT}/conflict/test_certifier.py",
    ),
    Guard(
        "what is applied as it was written is certified, too",
        "drc/conflict/certifier.py",
        "if slots is None or not",
        "if slots is not None and not",
        f"{_UNIT}/conflict/test_certifier.py",
    ),
    Guard(
        "a certificate walks with table ids of its own",
        "drc/conflict/certifier.py",
        "tables = self._tables.another()",
        "tables = self._tables",
        f"{_UNIT}/conflict/test_certifier.py",
    ),
    Guard(
        "a lock that is not to be had ends the session in the end",
        "drc/apply/recovery.py",
        "Remedy.STOP if self.retries > RETRIES_MAX else remedy",
        "remedy",
        f"{_UNIT}/apply/test_recovery.py",
    ),
    Guard(
        "what a transaction has seen is no rival of it",
        "drc/conflict/index.py",
        "at = bisect_left(writes, end, first, key=_gno)",
        "at = first",
        f"{_UNIT}/conflict/test_index.py",
    ),
    Guard(
        "a row's writes are only sliced where their numbers ascend",
        "drc/conflict/index.py",
        "elif self.ascending:",
        "elif False:",
        f"{_UNIT}/conflict/test_index.py",
    ),
    Guard(
        "what any event of a transaction changed was changed",
        "drc/rows/walk.py",
        "out[slot] = out.get(slot, 0) | changed",
        "out[slot] = changed",
        f"{_UNIT}/rows/test_walk.py",
    ),
    Guard(
        "a value of a version keeps that version's bytes, the later one's first",
        "drc/settle/ask.py",
        "sides.later_is_remote if all(has) else has[0]",
        "has[0]",
        f"{_UNIT}/conflict/test_function.py",
    ),
    Guard(
        "what has left memory for the disk is asked too",
        "drc/conflict/index.py",
        "if not self._spill or not self._spill.slots:",
        "if True:",
        f"{_PROPERTY}/test_spill.py",
    ),
    Guard(
        "a segment on disk stays until all peers have seen all of it",
        "drc/conflict/spill.py",
        "return self.newest in known and self.gtids <= known",
        "return self.newest in known",
        f"{_UNIT}/conflict/test_spill.py",
    ),
    Guard(
        "a segment that fails is named",
        "drc/conflict/spill.py",
        "return [self._fail(held, error)]",
        "return self._fail(held, error) and []",
        f"{_UNIT}/conflict/test_spill.py",
    ),
    Guard(
        "a write stays in the index until all peers have seen it",
        "drc/conflict/index.py",
        "while by_age and all(by_age[0][0].gtid in known for known in others):",
        "while by_age:",
        f"{_UNIT}/conflict/test_index.py",
    ),
    Guard(
        "the key of a row that came and went is looked at",
        "drc/rows/netting.py",
        "        yield from self.passing.values()\n",
        "",
        f"{_UNIT}/apply/test_batch.py",
    ),
    Guard(
        "the key of a row that came and went is locked",
        "drc/rows/netting.py",
        "if lock_passing and self.passing:",
        "if False:",
        f"{_UNIT}/apply/test_batch.py",
    ),
    Guard(
        "two appliers cannot both write one ledger row",
        "drc/schema/ledger.py",
        " AND seq={seq - ROWS}",
        "",
        "tests/integration/test_ledger.py",
    ),
    Guard(
        "a ledger row that is not there fails the batch",
        "drc/target/lane.py",
        "if changed is not None and changed != 1:",
        "if False:",
        "tests/integration/test_ledger.py",
    ),
    Guard(
        "a site's clock moves by what the ledger tells",
        "drc/schema/ledger.py",
        "ets={mark.ets},seen",
        "ets=0,seen",
        "tests/faults/test_clocks.py::test_a_clock_ahead_takes_the_other_along",
    ),
    Guard(
        "only what all peers know is noted as read",
        "drc/site/watcher.py",
        "read.candidates[0].native <= known",
        "True",
        "tests/faults/test_clocks.py::test_a_start_reads_again_what_a_peer_has_not_seen",
    ),
)


def main() -> int:
    """Try every guard; print a table; return 1 if one is not missed."""
    console = Console()
    table = Table("promise", "guard in", "without it")
    idle = 0
    with tempfile.TemporaryDirectory(prefix="drc-guards-") as work:
        copy = Path(work) / "drc"
        ignored = shutil.ignore_patterns(".git", ".venv", ".sandbox", "*_cache", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for guard in GUARDS:
            with console.status(guard.promise):
                seen = _notice(copy, guard)
            idle += not seen
            table.add_row(guard.promise, guard.file, seen or "[bold red]no test fails[/]")
    console.print(table)
    console.print(f"{len(GUARDS) - idle} of {len(GUARDS)} guards are missed when they are gone")
    return 1 if idle else 0


def _notice(copy: Path, guard: Guard) -> str:
    """Return the first test that fails without the guard, '' if none does.

    :raises ValueError: the guard's text is not in its file once.
    """
    path = copy / guard.file
    whole = path.read_text()
    if whole.count(guard.text) != 1:
        raise ValueError(f"{guard.file} does not hold once: {guard.text!r}")
    path.write_text(whole.replace(guard.text, guard.without))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", *guard.tests.split()],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        path.write_text(whole)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split()[1].rsplit("/", 1)[-1] if failed else ""


if __name__ == "__main__":
    sys.exit(main())
