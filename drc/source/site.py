"""A site as a source: where its binlog is read from, and by whom. Edge."""

from __future__ import annotations

import contextlib

from drc import mysql
from drc.config import Config
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

    def read(
        self,
        log: TransactionQueue,
        executed: GtidSet,
        *,
        target: str,
        stream: str,
        until: GtidSet | None = None,
    ) -> Reader:
        """Begin to read what is not in ``executed``; the reader takes over the connection.

        :param target: the site that reads: a replica id is its own. The site itself publishes.
        :param until: see :class:`Reader`.
        """
        config = self._config
        return Reader(
            self._conn,
            log,
            Tagger(self._foreign),
            executed=executed,
            server_id=config.dump_server_id(self._site, target),
            stream=stream,
            heartbeat_s=config.source.heartbeat_s,
            stream_bytes=config.apply.transaction_stream_bytes,
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
