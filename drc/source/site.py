"""A site as a source: the connection to the site's server, and readers of the binlog. Edge."""

from __future__ import annotations

from typing import Any

from drc import mysql
from drc.clock import Mark
from drc.config import Config
from drc.errors import PreflightError
from drc.gtid import GtidSet, format_uuid
from drc.pipe.queue import TransactionQueue
from drc.schema.clock_note import clock_note
from drc.schema.servers import foreign_uuids
from drc.source.reader import Delivery, Reader
from drc.source.resume import resume_set, start_set
from drc.source.tagger import Tagger


class SourceSite:
    """A connected server whose binlog is to be read, with the facts that decide where to begin.

    :param site: the site whose binlog is read.
    :param reader: the site that reads the binlog and remembers the servers of other sites; a
        publisher reads for the same site.
    :raises DrcError: ``site`` or ``reader`` cannot be reached, or another site cannot be reached
        and never was.
    """

    def __init__(self, config: Config, site: str, reader: str) -> None:
        self._config, self._site, self._reader = config, site, reader
        self._conn = mysql.connect(config, site, "source")
        try:
            self._facts = mysql.server_facts(self._conn)
            server = self._facts.server_uuid
            self._foreign = foreign_uuids(config, site, at=reader, server=server)
            self._refuse_stranger()
        except BaseException:
            self.close()
            raise

    def _refuse_stranger(self) -> None:
        """Refuse a server that another site has or had: native writes would count as replicated.

        :raises PreflightError: another site has or had the server.
        """
        if (uuid := self._facts.server_uuid) in self._foreign:
            raise PreflightError(
                f"server {format_uuid(uuid)} is remembered as a server of another site",
                site=self._site,
                stage="read",
                hint="check host and port; if the server moved between sites, delete its row from"
                f" drc.site_uuid at {self._reader}, after all earlier transactions are decided",
            )

    def start(self) -> GtidSet:
        """Return the GTIDs that a new stream treats as decided (``replicate.start``)."""
        facts, foreign = self._facts, self._foreign
        return start_set(self._config.replicate.start, lambda: facts.gtid_executed, lambda: foreign)

    def resume(self, decided: GtidSet, given_up: GtidSet | None = None) -> GtidSet:
        """Return the GTIDs that the server must not send; errors as with :func:`resume_set`."""
        facts = self._facts
        return resume_set(decided, facts.gtid_executed, facts.gtid_purged, self._foreign, given_up)

    def read_first(self, queue: TransactionQueue, start: GtidSet, **options: Any) -> Reader:
        """Begin to read after ``start`` for a stream that has no mark of the site's clock.

        The reader begins at the noted clock, if the binlog reaches back so far.
        """
        already_read, mark = clock_note(self._conn, self._site)
        if not (already_read <= start and self._facts.gtid_purged <= already_read):
            return self.read(queue, self.resume(start), mark, **options)
        return self.read(queue, already_read, mark, clock_only=start, **options)

    def read(
        self,
        queue: TransactionQueue,
        already_read: GtidSet,
        mark: Mark,
        *,
        stream: str,
        clock_only: GtidSet | None = None,
        already_decided: GtidSet | None = None,
        stop_after: GtidSet | None = None,
    ) -> Reader:
        """Begin to read after ``already_read``; the reader takes over the connection.

        :param mark: the site's clock after ``already_read``, or after ``already_decided``.
        :param clock_only: see :class:`Delivery`, also for the other two sets.
        """
        config = self._config
        return Reader(
            self._conn,
            queue,
            Tagger(self._foreign, mark),
            Delivery(already_read, clock_only, already_decided, stop_after),
            server_id=config.dump_server_id(self._site, self._reader),
            stream=stream,
            heartbeat_s=config.source.heartbeat_s,
            stream_bytes=config.apply.transaction_stream_bytes,
        )

    def close(self) -> None:
        """Close the connection, unless a reader took over and closed the connection."""
        self._conn._force_close()  # type: ignore[attr-defined]
