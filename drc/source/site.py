"""A site as a source: where its binlog is read from, and by whom. Edge."""

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
    """A site's server that is about to be read: what it has, and which GTIDs are not its own.

    :param reader: the site that reads it, and remembers the others' servers; the site itself
        publishes.
    :raises DrcError: it or the reader is not reachable, or another site that was never seen.
    """

    def __init__(self, config: Config, site: str, reader: str) -> None:
        self._config, self._site, self._reader = config, site, reader
        self._conn = mysql.connect(config, site, "source")
        try:
            self._facts = mysql.server_facts(self._conn)
            self._foreign = foreign_uuids(config, site, at=reader)
            self._refuse_stranger()
        except BaseException:
            self.close()
            raise

    def _refuse_stranger(self) -> None:
        """Refuse a server that another site has or had: its own writes would be taken for foreign.

        :raises PreflightError: it is one.
        """
        if (uuid := self._facts.server_uuid) in self._foreign:
            raise PreflightError(
                f"server {format_uuid(uuid)} is remembered as one of another site",
                site=self._site,
                stage="read",
                hint="check host and port; if it was moved between sites, delete it from"
                f" drc.site_uuid at {self._reader}, once nothing from before is under way",
            )

    def start(self) -> GtidSet:
        """Return the GTIDs that a new stream treats as decided (``replicate.start``)."""
        facts, foreign = self._facts, self._foreign
        return start_set(self._config.replicate.start, lambda: facts.gtid_executed, lambda: foreign)

    def resume(self, decided: GtidSet, given_up: GtidSet | None = None) -> GtidSet:
        """Return the GTIDs not to ask for; see :func:`resume_set` for what it raises."""
        facts = self._facts
        return resume_set(decided, facts.gtid_executed, facts.gtid_purged, self._foreign, given_up)

    def read_first(self, log: TransactionQueue, start: GtidSet, **options: Any) -> Reader:
        """Begin to read for one who has decided ``start`` and knows nothing of the clock.

        It goes on from where the clock was noted, as far as the binlog reaches back.
        """
        executed, mark = clock_note(self._conn, self._site)
        if not (executed <= start and self._facts.gtid_purged <= executed):
            return self.read(log, self.resume(start), mark, **options)
        return self.read(log, executed, mark, clock_only=start, **options)

    def read(
        self,
        log: TransactionQueue,
        executed: GtidSet,
        mark: Mark,
        *,
        stream: str,
        clock_only: GtidSet | None = None,
        already_decided: GtidSet | None = None,
        stop_after: GtidSet | None = None,
    ) -> Reader:
        """Begin to read what is not in ``executed``; the reader takes over the connection.

        :param mark: where the site's clock stands after ``executed``, or after ``already_decided``.
        :param clock_only: see :class:`Delivery`, also for the other two sets.
        """
        config = self._config
        return Reader(
            self._conn,
            log,
            Tagger(self._foreign, mark),
            Delivery(executed, clock_only, already_decided, stop_after),
            server_id=config.dump_server_id(self._site, self._reader),
            stream=stream,
            heartbeat_s=config.source.heartbeat_s,
            stream_bytes=config.apply.transaction_stream_bytes,
        )

    def close(self) -> None:
        """Close the connection, if nobody has taken it over and closed it."""
        self._conn._force_close()  # type: ignore[attr-defined]
