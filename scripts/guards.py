"""``make guards``: removes each safety guard in a copy of the tree, and checks that a test fails.

The exit code is 1 if the removal of any guard makes no test fail. Only the last few guards need
servers. A run takes about ten minutes.
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
    """A guard of a promise.

    :param promise: the promise, as a sentence.
    :param file: the file of the guard, for example ``drc/source/tagger.py``.
    :param text: the code of the guard, which the file contains exactly once.
    :param without: the code that replaces the guard.
    :param tests: files or tests, separated by spaces; a test of these must fail then.
    """

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
        "a GTID of another site is not shipped again",
        "drc/source/tagger.py",
        "gtid.uuid in foreign or ",
        "",
        f"{_UNIT}/source/test_tagger.py",
    ),
    Guard(
        "a transaction that begins with the ledger row is not shipped again",
        "drc/source/tagger.py",
        " or _ours(transaction)",
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
        "a branch begins only after the tee has read everything published",
        "drc/pipe/tee.py",
        "            and taken <= self._already_read\n",
        "",
        f"{_UNIT}/pipe/test_tee.py",
    ),
    Guard(
        "a transaction of a branch is not read a second time",
        "drc/kafka/feed.py",
        "return transactions[:number]",
        "return transactions",
        f"{_UNIT}/kafka/test_feed.py",
    ),
    Guard(
        "a publisher does not change to a branch inside a transaction",
        "drc/kafka/feed.py",
        "self._whole = out[-1].last",
        "self._whole = True",
        f"{_UNIT}/kafka/test_feed.py",
    ),
    Guard(
        "a canary is shipped, the only table of schema drc that is",
        "drc/source/tagger.py",
        "return data[at + 27 : at + 40] != _CANARY",
        "return True",
        f"{_UNIT}/worker/test_canary.py",
    ),
    Guard(
        "a canary that comes back is noticed",
        "drc/worker/canary.py",
        "if sent.site == self._origin:",
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
        "needed GTIDs that were purged are named",
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
        "rows of two definitions of a table are not netted",
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
        "keys that are equal for the server share a slot",
        "drc/rows/slots.py",
        "return _after(prefix_bytes(column), text) if text else unknown",
        "return stored",
        f"{_UNIT}/rows/test_slots.py",
    ),
    Guard(
        "batches that share a key do not run at the same time",
        "drc/apply/conveyor.py",
        "if not self._turn(lambda: self._may_run(batch)):",
        "if False:",
        f"{_UNIT}/apply/test_conveyor.py",
    ),
    Guard(
        "batches commit in the origin's commit order",
        "drc/apply/conveyor.py",
        "if not self._turn(lambda: self._committed == seq - 1):",
        "if False:",
        f"{_UNIT}/apply/test_conveyor.py",
    ),
    Guard(
        "transactions that were read before the reader's error are committed",
        "drc/apply/feeder.py",
        "            if self._conveyor.drain():\n                raise",
        "            raise",
        f"{_UNIT}/apply/test_feeder.py",
    ),
    Guard(
        "skipped transactions alone write nothing to the ledger",
        "drc/apply/batch.py",
        "            return None  # recording",
        "            pass  # recording",
        f"{_UNIT}/apply/test_batch.py",
    ),
    Guard(
        "no transaction passes the gate twice",
        "drc/kafka/gate.py",
        "if gtid in self._position:",
        "if False:",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "no transaction is left out at the gate",
        "drc/kafka/gate.py",
        "if missing := frame.before - self._position:",
        "if missing := GtidSet():",
        f"{_PROPERTY}/test_gate.py",
    ),
    Guard(
        "a replaced publisher's frames are dropped",
        "drc/kafka/gate.py",
        "if stamp.epoch < last.epoch:",
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
        "metrics are refused without the token",
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
        "a certificate waits until the index has all earlier writes",
        "drc/conflict/certifier.py",
        "if not self.index.wait_for(end, _BARRIER_S):",
        "if False:",
        f"{_UNIT}/conflict/test_certifier.py",
    ),
    Guard(
        "rows that are applied as written are certified, too",
        "drc/conflict/certifier.py",
        "if slots is None or not",
        "if slots is not None and not",
        f"{_UNIT}/conflict/test_certifier.py",
    ),
    Guard(
        "a certificate keeps a separate map of table ids",
        "drc/conflict/certifier.py",
        "tables = self._tables.another()",
        "tables = self._tables",
        f"{_UNIT}/conflict/test_certifier.py",
    ),
    Guard(
        "a lock that is never granted ends the session in the end",
        "drc/apply/recovery.py",
        "Remedy.STOP if self.retries > RETRIES_MAX else remedy",
        "remedy",
        f"{_UNIT}/apply/test_recovery.py",
    ),
    Guard(
        "a write that a transaction has seen is no rival of that transaction",
        "drc/conflict/index.py",
        "at = bisect_left(writes, end, first, key=_gno)",
        "at = first",
        f"{_UNIT}/conflict/test_index.py",
    ),
    Guard(
        "the writes of a row are only sliced if their GTID numbers ascend",
        "drc/conflict/index.py",
        "elif self.ascending:",
        "elif False:",
        f"{_UNIT}/conflict/test_index.py",
    ),
    Guard(
        "a column that any event of a transaction changed counts as changed",
        "drc/rows/walk.py",
        "out[slot] = out.get(slot, 0) | changed",
        "out[slot] = changed",
        f"{_UNIT}/rows/test_walk.py",
    ),
    Guard(
        "a returned value keeps its version's bytes; of both, the later version's",
        "drc/settle/ask.py",
        "sides.later_is_remote if all(has) else has[0]",
        "has[0]",
        f"{_UNIT}/conflict/test_function.py",
    ),
    Guard(
        "spilled writes are found, too",
        "drc/conflict/index.py",
        "if not self._spill or not self._spill.slots:",
        "if True:",
        f"{_PROPERTY}/test_spill.py",
    ),
    Guard(
        "a segment on disk stays until all peers have seen the whole segment",
        "drc/conflict/spill.py",
        "return self.newest in known and self.gtids <= known",
        "return self.newest in known",
        f"{_UNIT}/conflict/test_spill.py",
    ),
    Guard(
        "the writes of a failed segment are named",
        "drc/conflict/spill.py",
        "return [self._fail(held, error)]",
        "return self._fail(held, error) and []",
        f"{_UNIT}/conflict/test_spill.py",
    ),
    Guard(
        "a write stays in the index until all peers have seen the write",
        "drc/conflict/index.py",
        "while by_age and all(by_age[0][0].gtid in known for known in others):",
        "while by_age:",
        f"{_UNIT}/conflict/test_index.py",
    ),
    Guard(
        "the key of a row that a batch inserts and deletes is checked",
        "drc/rows/netting.py",
        "        yield from self.passing.values()\n",
        "",
        f"{_UNIT}/apply/test_batch.py",
    ),
    Guard(
        "the key of a row that a batch inserts and deletes is locked",
        "drc/rows/netting.py",
        "if lock_passing and self.passing:",
        "if False:",
        f"{_UNIT}/apply/test_batch.py",
    ),
    Guard(
        "two appliers cannot both write the same ledger row",
        "drc/schema/ledger.py",
        " AND seq={seq - ROWS}",
        "",
        "tests/integration/test_ledger.py",
    ),
    Guard(
        "a missing ledger row fails the batch",
        "drc/target/lane.py",
        "if changed is not None and changed != 1:",
        "if False:",
        "tests/integration/test_ledger.py",
    ),
    Guard(
        "the mark of the ledger advances a site's clock",
        "drc/schema/ledger.py",
        "ets={mark.ets},seen",
        "ets=0,seen",
        "tests/faults/test_clocks.py::test_a_clock_ahead_takes_the_other_along",
    ),
    Guard(
        "the clock note contains only transactions that all peers have seen",
        "drc/site/watcher.py",
        "read.candidates[0].native <= known",
        "True",
        "tests/faults/test_clocks.py::test_a_start_reads_again_what_a_peer_has_not_seen",
    ),
)


def main() -> int:
    """Try every guard and print a table; return 1 if a removed guard makes no test fail."""
    console = Console()
    table = Table("promise", "guard in", "fails without the guard")
    idle = 0
    with tempfile.TemporaryDirectory(prefix="drc-guards-") as work:
        copy = Path(work) / "drc"
        ignored = shutil.ignore_patterns(".git", ".venv", ".sandbox", "*_cache", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for guard in GUARDS:
            with console.status(guard.promise):
                failed = _failed_without(copy, guard)
            idle += not failed
            table.add_row(guard.promise, guard.file, failed or "[bold red]no test fails[/]")
    console.print(table)
    console.print(f"{len(GUARDS) - idle} of {len(GUARDS)} removed guards make a test fail")
    return 1 if idle else 0


def _failed_without(copy: Path, guard: Guard) -> str:
    """Return the first test that fails without the guard, "hangs" after a timeout, or "".

    :raises ValueError: the file does not contain the guard's text exactly once.
    """
    path = copy / guard.file
    whole = path.read_text()
    if whole.count(guard.text) != 1:
        raise ValueError(f"{guard.file} does not contain exactly once: {guard.text!r}")
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
