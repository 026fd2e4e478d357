"""The contract of a session that applies batches at the target.

A :class:`~drc.target.lane.Lane` fulfils it by ``BINLOG``. The conveyor knows nothing else of a
target, so another way to write the same changes needs another executor and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drc.binlog.events import Buffer
from drc.binlog.framing import Position
from drc.rows.changes import Changes

Rendered = Sequence[Buffer]  # in the form that the executor's own server takes


class Executor(Protocol):
    """One session at the target; not safe for several threads at once.

    ``epoch`` is that of the lease under which ledger rows are written.
    """

    epoch: int

    @property
    def connection(self) -> int:
        """Return the server's number for this session."""

    def render(self, changes: Changes) -> Rendered:
        """Return changes as :meth:`begin` takes them; asks no server."""

    def begin(
        self, ledger_sql: str, rendered: Rendered, *, ask_end: bool = False
    ) -> Position | None:
        """Open a transaction, write the ledger row, then make the changes.

        :param ask_end: also return where the server's binlog ends, once all locks are held.
        :raises DrcError: classed by errno; the caller must roll back.
        """

    def awaited(self) -> bool:
        """Return whether a local user waits for a lock of the open transaction, or may."""

    def commit(self) -> None:
        """Commit.

        :raises TransientError: the link broke; the ledger tells whether the commit came through.
        """

    def rollback(self) -> None:
        """Undo the open transaction."""

    def close(self) -> None:
        """Drop the session; the server rolls back an open transaction."""
