"""A site as a source: where its binlog is read from, and by whom. Edge."""

from __future__ import annotations

import contextlib
from typing import Any

from drc import mysql
from drc.config import Config
from drc.conflict.clock import Mark
from drc.conflict.note import clock_note
from drc.gtid import GtidSet
from drc.log.queue import TransactionQueue
from drc.source.reader import Reader
from drc.source.resume import resume_set, start_set
from drc.source.tagger import Tagger


class SourceSite:
    """A site's server that is about to be read: what it has, and which GTIDs are not its own.

    :raises DrcError: it, or one of the other sites, is not reachable.
    """

    def __init__(self, config: Config, site: str) -> None:
        self._config, self._site = config, site
        settings = config.sites[site]
        self._conn = mysql.connect(settings, settings.source, site_name=site)
        try:
            self._facts = mysql.server_facts(self._conn)
            self._foreign = foreign_uuids(config, site)
        except BaseException:
            self.close()
            raise

    def start(self) -> GtidSet:
        """Return what one who has never read this site takes for decided."""
        return start_set(self._config.replicate.start, self._facts.gtid_executed, self._foreign)

    def resume(self, decided: GtidSet) -> GtidSet:
        """Return the GTIDs not to ask for; see :func:`resume_set` for what it raises."""
        facts = self._facts
        return resume_set(decided, facts.gtid_executed, facts.gtid_purged, self._foreign)

    def read_first(self, log: TransactionQueue, start: GtidSet, **options: Any) -> Reader:
        """Begin to read for one who has decided ``start`` and knows nothing of the clock.

        It goes on from where the clock was noted, as far as the binlog reaches back.
        """
        executed, mark = clock_note(self._conn, self._site)
        if not (executed <= start and self._facts.gtid_purged <= executed):
            return self.read(log, self.resume(start), mark, **options)
        return self.read(log, executed, mark, known=start, **options)

    def read(
        self,
        log: TransactionQueue,
        executed: GtidSet,
        mark: Mark,
        *,
        target: str,
        stream: str,
        known: GtidSet | None = None,
        until: GtidSet | None = None,
    ) -> Reader:
        """Begin to read what is not in ``executed``; the reader takes over the connection.

        :param mark: where the site's clock stands after ``executed``.
        :param target: the site that reads: a replica id is its own. The site itself publishes.
        :param known: see :class:`Reader`, and ``until``.
        """
        config = self._config
        return Reader(
            self._conn,
            log,
            Tagger(self._foreign, mark),
            executed=executed,
            server_id=config.dump_server_id(self._site, target),
            stream=stream,
            heartbeat_s=config.source.heartbeat_s,
            stream_bytes=config.apply.transaction_stream_bytes,
            known=known,
            until=until,
        )

    def close(self) -> None:
        """Close the connection, if nobody has taken it over and closed it."""
        self._conn._force_close()  # type: ignore[attr-defined]


def foreign_uuids(config: Config, origin: str) -> set[bytes]:
    """Return the server UUIDs of all sites but the origin.

    :raises TransientError: a site was not reachable.
    """
    out: set[bytes] = set()
    for name, site in config.sites.items():
        if name != origin:
            with contextlib.closing(mysql.connect(site, site.source, site_name=name)) as conn:
                out.add(mysql.server_facts(conn).server_uuid)
    return out
