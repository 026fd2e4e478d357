"""Executor: the contract of a session that applies batches at the target.

A :class:`~drc.target.lane.Lane` fulfils the contract by ``BINLOG``. The conveyor knows nothing else
of a target, so another way to write the same changes needs another executor and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drc.binlog.events import Buffer
from drc.binlog.framing import Position
from drc.rows.changes import Changes

Rendered = Sequence[Buffer]  # in the form that the executor's own server takes


class Executor(Protocol):
    """A session at the target; not safe for several threads at once.

    ``epoch`` is the epoch of the lease under which ledger rows are written.
    """

    epoch: int

    @property
    def connection(self) -> int:
        """Return the server's number for this session."""

    def render(self, changes: Changes) -> Rendered:
        """Return changes in the form for :meth:`begin`; no server is asked."""

    def begin(
        self, ledger_sql: str, rendered: Rendered, *, ask_end: bool = False
    ) -> Position | None:
        """Open a transaction, write the ledger row, then make the changes.

        :param ask_end: also return the end of the server's binlog when all locks are held.
        :raises DrcError: classed by errno; the caller must roll back.
        """

    def awaited(self) -> bool:
        """Return True if a local user waits, or may wait, for a lock of the open transaction."""

    def commit(self) -> None:
        """Commit.

        :raises TransientError: the link broke; the ledger tells whether the commit succeeded.
        """

    def rollback(self) -> None:
        """Undo the open transaction."""

    def close(self) -> None:
        """Drop the session; the server rolls back an open transaction."""
