"""The place of the certificate: between a batch's row locks and its commit.

A batch that is executed holds its row locks; its commit waits for a certificate that none of its
rows has a concurrent writer here. Where every row has one writing site there is nothing to look
up, and :class:`SingleWriter` says so at once.
"""

from __future__ import annotations

from typing import Protocol

from drc.apply.batch import Batch


class Certifier(Protocol):
    """Decide, under locks, whether a batch may commit as it is."""

    def certify(self, batch: Batch) -> bool:
        """Return True when no row of the batch has a concurrent local writer.

        Runs in a lane's thread after execution; a False rolls the batch and all later ones
        back. It must return within a bounded time, as local users wait for its locks.
        """


class SingleWriter:
    """Certify everything: the sites write disjoint rows.

    A row that two sites write after all is noticed by STRICT mode when it is missing or there
    twice, and stops the stream.
    """

    def certify(self, batch: Batch) -> bool:
        """Return True."""
        return True
