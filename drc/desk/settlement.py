"""Settlement: makes an operator's choice for a logged conflict as an ordinary change. Edge.

1. A settlement cannot make sites diverge, and needs no repetition at the other site: a settlement
   is a single native transaction at the site that has to change, which is the site whose entry
   holds the chosen version as the remote version. Replication carries the transaction to the
   other site, after every transaction that the settlement has seen.
2. A settlement changes only rows that are still as the conflict log says, checked under the rows'
   locks; otherwise the settlement is refused.
3. A chosen version is written byte for byte, from the image in the conflict log, as replication
   writes: without triggers and foreign key checks. Values that an operator gives are written by
   SQL, with both.
4. The entry is settled in the same transaction, after the rows, because a transaction that begins
   with schema ``drc`` would stay at this site (``source/tagger.py``).
5. Of rows that collide in a unique key, the rows in the way are deleted, or get other values.

docs/conflicts.md tells why a settlement is not a repair at each site.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from drc import mysql
from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.framing import Framer
from drc.config import Config
from drc.conflict.resolver import ConflictKind, Winner
from drc.desk.entries import EntryDocument, entry, no_entry
from drc.errors import ConfigError, DataError, DrcError
from drc.rows.images import column_walkers
from drc.rows.literals import key_condition, quote, row_condition, table_name, unique_condition
from drc.rows.mask import Mask
from drc.schema import conflict_log
from drc.source.dump import reads, start_dump
from drc.target.catalog import Catalog
from drc.target.lane import Lane

_LOCK_WAIT_S = 5
_HEARTBEAT_S = 1.0
_COLLIDING_MAX = 1000  # the newest open collisions of a table: the entries that are searched
_STRICT = (
    "SET sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO',"
    " foreign_key_checks = 1"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of an operator for an entry.

    :param site: the site of the entry.
    :param take: ``remote`` or ``local``, seen from ``site``; '' with ``values``.
    :param values: new values for the site's own row, by column; None for NULL.
    :param by: the name of the operator, for the conflict log.
    :param reason: the reason for the choice, for the conflict log.
    """

    site: str
    take: str
    values: Mapping[str, str | None]
    by: str
    reason: str

    def text(self) -> str:
        """Return the text for the conflict log, without values, because values may be masked.

        Examples: ``take remote of beijing: wrong price``, ``set price, note: wrong price``.
        """
        what = f"take {self.take} of {self.site}" if self.take else f"set {', '.join(self.values)}"
        return f"{what}: {self.reason}"[:255]


class Outcome(NamedTuple):
    """The site of the change, and the number of settled entries at each site."""

    changed_at: str
    settled: dict[str, int]


class _Image(NamedTuple):
    """A remote change from the conflict log; ``after`` is None for a delete."""

    table: TableMap
    key: bytes
    after: bytes | None


def settle(config: Config, site: str, number: int, choice: Choice) -> Outcome:
    """Settle the conflict ``number`` of ``site``, at both sites.

    :raises DataError: a row has changed since, or the conflict log holds no image to write.
    :raises ConfigError: the entry does not exist, or cannot be settled by this choice.
    """
    if len(config.sites) != 2:
        raise ConfigError(
            "cannot settle a conflict: a settlement needs a pair of two sites",
            hint="change the row by SQL instead",
        )
    config.site(site)
    (other,) = (name for name in config.sites if name != site)
    with contextlib.ExitStack() as opened:
        here, there = _Desk(config, site, opened), _Desk(config, other, opened)
        logged = here.entry(number)
        _refuse_settled(logged)
        mirror = _mirror(here, there, logged)
        if mirror is None and (choice.take == "local" or logged["state"] == "open"):
            raise DataError(
                f"{other} has no entry for the other half of this conflict",
                site=site,
                table=logged["table"],
                hint=f"run the command again later, as the daemon of {other} may not have met the"
                " conflict yet; or change the row by SQL instead",
            )
        if choice.take == "local":
            assert mirror
            return _Settlement(there, here, mirror, logged, choice).run()
        return _Settlement(here, there, logged, mirror, choice).run()


def _refuse_settled(logged: EntryDocument) -> None:
    if logged["state"] not in ("open", "auto"):
        raise ConfigError(
            f"this conflict is already {logged['state']}: {logged['settlement']},"
            f" by {logged['settled_by']} at {logged['settled_at']}",
            hint="change the row by SQL, as any user would",
        )


def _mirror(here: _Desk, there: _Desk, logged: EntryDocument) -> EntryDocument | None:
    """Return the other site's entry for the same conflict."""
    if logged["kind"] != ConflictKind.MULTIPLE_UNIQUE_CONFLICTS:
        return there.met(logged)
    image = here.image(logged)
    if taken := here.taken(image):
        for number, other in there.colliding(logged):
            if here.holds(other.table, f"{key_condition(other.table, other.key)} AND ({taken})"):
                return there.entry(number)
    return None


class _Settlement:
    """A settlement: writes an entry's remote version, or other values, ``here``.

    Replication carries the change to ``there``.

    :param logged: the entry of ``here``.
    :param mirror: the entry of ``there`` for the same conflict.
    """

    def __init__(
        self,
        here: _Desk,
        there: _Desk,
        logged: EntryDocument,
        mirror: EntryDocument | None,
        choice: Choice,
    ) -> None:
        self._here, self._there = here, there
        self._entry, self._mirror, self._choice = logged, mirror, choice
        self._collision = logged["kind"] == ConflictKind.MULTIPLE_UNIQUE_CONFLICTS
        self._slots = {logged["slot"]}

    def run(self) -> Outcome:
        """Make the settlement; a refused settlement changes nothing."""
        here, there, number = self._here, self._there, self._entry["id"]
        here.lane.execute("BEGIN")
        there.lane.execute("BEGIN")
        try:
            self._change()
            entry, slots, choice = self._entry, self._slots, self._choice
            settled = {here.site: here.close_entries(entry, number, slots, choice)}
            met = self._mirror["id"] if self._mirror else 0
            settled[there.site] = there.close_entries(entry, met, slots, choice)
            if not settled[here.site]:
                raise _changed("another operator has settled the conflict")
            here.lane.commit()
            there.lane.commit()
        except DrcError as error:
            error.site, error.table = error.site or here.site, error.table or self._entry["table"]
            raise
        return Outcome(here.site, settled)

    def _change(self) -> None:
        if newer := self._here.newer(self._entry):
            raise _changed(f"entry {newer} of {self._here.site} is newer and has the same row")
        here, image = self._here, self._here.image(self._entry)
        where = key_condition(image.table, image.key)
        row = here.lane.locked(image.table, where)
        self._refuse_changed(image, where, row)
        if self._choice.values and not self._collision:
            here.update(image.table, where, self._choice.values)
            return
        if self._collision:
            self._clear(image)
        if image.after is None:
            if row is not None:
                here.write(image.table, ev.DELETE_ROWS, [image.key])
        elif row is not None:
            here.write(image.table, ev.UPDATE_ROWS, [image.key, image.after])
        else:
            here.write(image.table, ev.WRITE_ROWS, [image.after])

    def _refuse_changed(self, image: _Image, where: str, row: dict[str, Any] | None) -> None:
        """Refuse the row, which is locked, unless the row is as the conflict log says.

        :raises DataError: the row has changed, or merged columns make the choice impossible.
        """
        entry = self._entry
        if entry["winner"] == Winner.MERGED:
            raise DataError(
                "cannot settle: the columns of the row were merged",
                hint="change the row by SQL instead",
            )
        if entry["winner"] == Winner.REMOTE:
            same = (row is None) == (image.after is None)
            if same and image.after is not None:
                same = self._here.holds(image.table, f"{where} AND {_bytes(image)}")
        else:
            same = self._here.shown(entry["table"], row) == entry["row_local"]
        if not same:
            raise _changed(f"the row {entry['row_key']} is not as the conflict log says")

    def _clear(self, image: _Image) -> None:
        """Delete or change the rows that hold a unique value of the image.

        :raises DataError: such a row is not as the conflict log says.
        """
        here, taken = self._here, self._here.taken(image)
        if not taken:
            return
        own = key_condition(image.table, image.key)
        left = here.count(image.table, f"({taken}) AND NOT ({own})")
        for number, other in self._there.colliding(self._entry):
            where = key_condition(other.table, other.key)
            if here.holds(other.table, f"{where} AND {_bytes(other)} AND ({taken})"):
                self._slots.add(self._there.entry(number)["slot"])
                left -= 1
                if self._choice.values:
                    here.update(other.table, where, self._choice.values)
                else:
                    here.write(other.table, ev.DELETE_ROWS, [other.key])
        if left:
            raise _changed("a row with the same unique value is not as the conflict log says")


class _Desk:
    """A site of a settlement: the conflict log, and a lane that writes native transactions."""

    def __init__(self, config: Config, site: str, opened: contextlib.ExitStack) -> None:
        self.site = site
        self._mask = Mask(config.conflicts.mask, config.name)

        def connect(client_flag: int = 0) -> mysql.Connection:
            return mysql.connect(config, site, "applier", client_flag=client_flag)

        self._catalog = Catalog(connect())
        opened.callback(self._catalog.close)
        form = _format_description(config, site)
        self.lane = Lane(connect, form, tag=False, lock_wait_s=_LOCK_WAIT_S)
        opened.callback(self.lane.close)

    # ------------------------------------------------------------ the conflict log

    def entry(self, number: int) -> EntryDocument:
        """Return the entry ``number``.

        :raises ConfigError: the entry does not exist.
        """
        row = self.lane.row(conflict_log.ONE % int(number))
        if row is None:
            raise no_entry(self.site, number)
        return entry(self.site, row)

    def met(self, logged: EntryDocument) -> EntryDocument | None:
        """Return the entry about the newest rival in ``logged``, an entry of the other site."""
        if not logged["rivals"]:
            return None
        found = self._numbers(
            "gtid = %s AND slot = %s", (logged["rivals"][-1]["gtid"], logged["slot"]), logged
        )
        return self.entry(found[0]) if found else None

    def newer(self, logged: EntryDocument) -> int | None:
        """Return the number of a newer entry of this site about the same row."""
        found = self._numbers("id > %s AND slot = %s", (logged["id"], logged["slot"]), logged)
        return found[0] if found else None

    def colliding(self, logged: EntryDocument) -> Iterator[tuple[int, _Image]]:
        """Yield (number, image) of this site's open collisions in a table, each row once.

        :param logged: an entry of the other site, which names the table.
        """
        where = "state = 'open' AND kind = %s AND images IS NOT NULL"
        keys = set[bytes]()
        for number in self._numbers(where, (str(ConflictKind.MULTIPLE_UNIQUE_CONFLICTS),), logged):
            image = self.image(self.entry(number))
            if image.after is not None and image.key not in keys:
                keys.add(image.key)
                yield number, image

    def _numbers(self, where: str, values: tuple[Any, ...], logged: EntryDocument) -> list[int]:
        schema, _, table = logged["table"].partition(".")
        sql = conflict_log.numbers(where, _COLLIDING_MAX)
        return [int(number) for (number,) in self._asked(sql, (*values, schema, table))]

    def image(self, logged: EntryDocument) -> _Image:
        """Return the remote version that an entry of this site holds.

        :raises DataError: the entry holds no image.
        """
        ((blob,),) = self._asked(conflict_log.IMAGES, (logged["id"],))
        if blob is None:
            raise DataError(
                "the conflict log holds no image of this row: the table has masked columns",
                site=self.site,
                table=logged["table"],
                hint="change the row by SQL, as any user would; run `drc docs conflicts` to read"
                " how",
            )
        return read_image(blob)

    def close_entries(
        self, logged: EntryDocument, number: int, slots: set[int], choice: Choice
    ) -> int:
        """Settle the entry ``number`` and all open entries about the rows with these slots.

        :return: the number of entries.
        """
        schema, _, table = logged["table"].partition(".")
        self.lane.run(
            conflict_log.settle(slots),
            (choice.by[:128], choice.text(), schema, table, number),
        )
        return self.lane.changed

    # ------------------------------------------------------------ rows

    def holds(self, table: TableMap, where: str) -> bool:
        """Return whether a row fulfils ``where``; the row is then locked."""
        found = self.lane.rows(f"SELECT 1 FROM {table_name(table)} WHERE {where} FOR UPDATE")
        return bool(found)

    def count(self, table: TableMap, where: str) -> int:
        """Return the number of rows that fulfil ``where``; the rows are then locked."""
        return len(self.lane.rows(f"SELECT 1 FROM {table_name(table)} WHERE {where} FOR UPDATE"))

    def taken(self, image: _Image) -> str:
        """Return the SQL condition for rows that hold a unique value of the image, or ''."""
        keys = self._catalog.unique_keys(image.table) if image.after is not None else []
        found = [unique_condition(image.table, key, image.after or b"") for key in keys if key]
        return " OR ".join(f"({condition})" for condition in found if condition)

    def shown(self, table: str, row: dict[str, Any] | None) -> Any:
        """Return a row in the form in which the conflict log holds rows."""
        from drc.rows.decoded import readable  # late: the library behind this module loads slowly

        if row is None:
            return None
        values = {name: readable(value) for name, value in row.items()}
        return json.loads(json.dumps(self._mask.row(table, values)))

    def write(self, table: TableMap, kind: int, images: list[bytes]) -> None:
        """Write a row by a rows event with the row's images."""
        self.lane.apply([table.event, ev.rows_event(table, kind, images)])

    def update(self, table: TableMap, where: str, values: Mapping[str, str | None]) -> None:
        """Set columns of a row to other values.

        :raises ConfigError: a name is not a column outside the primary key, or the row already
            holds these values.
        """
        columns = {column.name.lower(): i for i, column in enumerate(table.columns)}
        for name in values:
            if columns.get(name.lower()) in (None, *(i for i, _ in table.primary_key)):
                raise ConfigError(
                    f"column {name!r} cannot be set", hint="name a column outside the primary key"
                )
        assigned = ", ".join(f"{_bound(quote(name))} = %s" for name in values)
        self.lane.execute(_STRICT)
        self.lane.run(
            f"UPDATE {_bound(table_name(table))} SET {assigned} WHERE {_bound(where)}",
            tuple(values.values()),
        )
        if not self.lane.changed:
            raise ConfigError(
                "the row already holds these values, so there is nothing to replicate",
                hint="use --take local, or other values",
            )

    def _asked(self, sql: str, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        self.lane.run(sql, values)
        return self.lane.found


def read_image(blob: bytes) -> _Image:
    """Read a table map and a rows event of a single row."""
    from drc.rows.decoded import images_at  # late: the library behind this module loads slowly

    size = int(ev.u32(blob, 9)[0])
    table, event = ev.parse_table_map(blob[ev.HEADER_BYTES : size]), blob[size:]
    walkers = column_walkers(table, range(len(table.columns)))
    at, images = images_at(table, event), list[bytes]()
    while at < len(event):
        stop, _ = walkers[event[at : at + walkers.null_bytes]](event, at)
        images.append(event[at:stop])
        at = stop
    return _Image(table, images[0], None if event[4] == ev.DELETE_ROWS else images[-1])


def _bytes(image: _Image) -> str:
    assert image.after is not None
    return row_condition(image.table, image.after)


def _bound(sql: str) -> str:
    """Escape SQL text for a statement with bound values: ``%`` becomes ``%%``."""
    return sql.replace("%", "%%")


def _changed(reason: str) -> DataError:
    return DataError(
        f"the row has changed since the conflict: {reason}",
        stage="settle",
        hint="run `drc conflicts show` to see the present state of the entry",
    )


def _format_description(config: Config, site: str) -> bytes:
    """Return the server's format description event, the first event of every dump."""
    framer = Framer(lambda _: None)
    conn = mysql.connect(config, site, "source")
    try:
        sock = start_dump(
            conn,
            mysql.server_facts(conn).gtid_executed,
            server_id=config.dump_server_id(site, "desk"),
            stream=f"desk-{site}-{uuid4()}",
            heartbeat_s=_HEARTBEAT_S,
        )
        for data in reads(sock):
            framer.feed(data)
            if framer.format_description:
                break
        return framer.format_description
    finally:
        conn._force_close()  # type: ignore[attr-defined]
