"""An operator's decision about one logged conflict, made as an ordinary change. Edge.

1. A settlement is one native transaction at the site that has to change: the one whose entry
   holds the chosen version as the remote one. Replication carries it to the other site, after
   everything it has seen. So nothing here can diverge, and nothing is to be repeated there.
2. It is made only if every row is still as the log says, under the rows' locks.
3. A chosen version is written byte for byte, from the log's image, as replication writes: without
   triggers and foreign key checks. Values that an operator gives go by SQL, with both.
4. The entry is settled in the same transaction, behind the rows: what begins with schema ``drc``
   would stay at this site (``source/tagger.py``).
5. Of rows that collide in a unique key, those in the way are deleted, or given other values.

docs/conflicts.md tells why it is not a repair at each site.
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
from drc.conflict.resolver import Kind, Winner
from drc.desk.entries import Entry, entry, no_entry
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
_RIVALS_MAX = 1000  # open collisions of one table that are looked through, the newest
_STRICT = (
    "SET sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO',"
    " foreign_key_checks = 1"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants.

    :param site: whose entry it is.
    :param take: ``remote`` or ``local``, seen from there; '' with ``values``.
    :param values: columns of this site's own row; None for NULL.
    :param by: who says so.
    """

    site: str
    take: str
    values: Mapping[str, str | None]
    by: str
    reason: str

    def text(self) -> str:
        """Return it as the log keeps it; values stay out, as they may be masked."""
        what = f"take {self.take} of {self.site}" if self.take else f"set {', '.join(self.values)}"
        return f"{what}: {self.reason}"[:255]


class Outcome(NamedTuple):
    """Where the change was made, and how many entries it settled at each site."""

    changed_at: str
    settled: dict[str, int]


class _Image(NamedTuple):
    """A remote change as the log holds it; ``after`` is None for a delete."""

    table: TableMap
    key: bytes
    after: bytes | None


def settle(config: Config, site: str, number: int, order: Order) -> Outcome:
    """Settle the conflict ``number`` of ``site``, at both sites.

    :raises DataError: a row has changed since, or there is no image to write.
    :raises ConfigError: no such entry, or nothing that can be settled so.
    """
    if len(config.sites) != 2:
        raise ConfigError("conflicts are settled between two sites", hint="change the row instead")
    config.site(site)
    (other,) = (name for name in config.sites if name != site)
    with contextlib.ExitStack() as opened:
        here, there = _Desk(config, site, opened), _Desk(config, other, opened)
        logged = here.entry(number)
        _refuse_settled(logged)
        mirror = _mirror(here, there, logged)
        if mirror is None and (order.take == "local" or logged["state"] == "open"):
            raise DataError(
                f"{other} has no entry for the other half of this conflict",
                site=site,
                table=logged["table"],
                hint="its daemon may not have met it yet: try again; or change the row instead",
            )
        if order.take == "local":
            assert mirror
            return _Settlement(there, here, mirror, logged, order).run()
        return _Settlement(here, there, logged, mirror, order).run()


def _refuse_settled(logged: Entry) -> None:
    if logged["state"] not in ("open", "auto"):
        raise ConfigError(
            f"this conflict is {logged['state']}: {logged['settlement']},"
            f" by {logged['settled_by']} at {logged['settled_at']}",
            hint="change the row as any user would",
        )


def _mirror(here: _Desk, there: _Desk, logged: Entry) -> Entry | None:
    """Return the other site's entry for the same conflict."""
    if logged["kind"] != Kind.MULTIPLE_UNIQUE_CONFLICTS:
        return there.met(logged)
    image = here.image(logged)
    if taken := here.taken(image):
        for number, rival in there.rivals(logged):
            if here.holds(rival.table, f"{key_condition(rival.table, rival.key)} AND ({taken})"):
                return there.entry(number)
    return None


class _Settlement:
    """The remote version of an entry, or other values, ``here``; ``there`` by replication."""

    def __init__(
        self, here: _Desk, there: _Desk, logged: Entry, mirror: Entry | None, order: Order
    ) -> None:
        self._here, self._there = here, there
        self._entry, self._mirror, self._order = logged, mirror, order
        self._collision = logged["kind"] == Kind.MULTIPLE_UNIQUE_CONFLICTS
        self._slots = {logged["slot"]}

    def run(self) -> Outcome:
        """Make it; nothing is changed if it is refused."""
        here, there, number = self._here, self._there, self._entry["id"]
        here.lane.execute("BEGIN")
        there.lane.execute("BEGIN")
        try:
            self._change()
            settled = {here.site: here.mark(self._entry, number, self._slots, self._order)}
            met = self._mirror["id"] if self._mirror else 0
            settled[there.site] = there.mark(self._entry, met, self._slots, self._order)
            if not settled[here.site]:
                raise _changed("somebody else has settled it")
            here.lane.commit()
            there.lane.commit()
        except DrcError as error:
            error.site, error.table = error.site or here.site, error.table or self._entry["table"]
            raise
        return Outcome(here.site, settled)

    def _change(self) -> None:
        if newer := self._here.newer(self._entry):
            raise _changed(f"entry {newer} of {self._here.site} is newer and about the same row")
        here, image = self._here, self._here.image(self._entry)
        where = key_condition(image.table, image.key)
        row = here.lane.locked(image.table, where)
        self._refuse_changed(image, where, row)
        if self._order.values and not self._collision:
            here.update(image.table, where, self._order.values)
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
        """See that the row, which is locked, is as the log left it."""
        entry = self._entry
        if entry["winner"] == Winner.MERGED:
            raise DataError("its columns were merged", hint="change the row instead")
        if entry["winner"] == Winner.REMOTE:
            same = (row is None) == (image.after is None)
            if same and image.after is not None:
                same = self._here.holds(image.table, f"{where} AND {_bytes(image)}")
        else:
            same = self._here.shown(entry["table"], row) == entry["row_local"]
        if not same:
            raise _changed(f"the row {entry['row_key']} is not as the log says")

    def _clear(self, image: _Image) -> None:
        """Move rows out of the way that hold a unique value of the image; all must be known."""
        here, taken = self._here, self._here.taken(image)
        if not taken:
            return
        own = key_condition(image.table, image.key)
        left = here.count(image.table, f"({taken}) AND NOT ({own})")
        for number, rival in self._there.rivals(self._entry):
            where = key_condition(rival.table, rival.key)
            if here.holds(rival.table, f"{where} AND {_bytes(rival)} AND ({taken})"):
                self._slots.add(self._there.entry(number)["slot"])
                left -= 1
                if self._order.values:
                    here.update(rival.table, where, self._order.values)
                else:
                    here.write(rival.table, ev.DELETE_ROWS, [rival.key])
        if left:
            raise _changed("a row that collides with it is not as the log says")


class _Desk:
    """A site at which something is settled: a lane that writes native transactions."""

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

    # ------------------------------------------------------------ the log

    def entry(self, number: int) -> Entry:
        """Return an entry.

        :raises ConfigError: there is none of that number.
        """
        row = self.lane.row(conflict_log.ONE % int(number))
        if row is None:
            raise no_entry(self.site, number)
        return entry(self.site, row)

    def met(self, logged: Entry) -> Entry | None:
        """Return the entry of the newest rival of the other site's entry ``logged``."""
        if not logged["rivals"]:
            return None
        found = self._numbers(
            "gtid = %s AND slot = %s", (logged["rivals"][-1]["gtid"], logged["slot"]), logged
        )
        return self.entry(found[0]) if found else None

    def newer(self, logged: Entry) -> int | None:
        """Return the number of a newer entry of ours about the same row."""
        found = self._numbers("id > %s AND slot = %s", (logged["id"], logged["slot"]), logged)
        return found[0] if found else None

    def rivals(self, logged: Entry) -> Iterator[tuple[int, _Image]]:
        """Yield our open collisions in the table of the other site's entry, one for each row."""
        where = "state = 'open' AND kind = %s AND images IS NOT NULL"
        seen = set[bytes]()
        for number in self._numbers(where, (str(Kind.MULTIPLE_UNIQUE_CONFLICTS),), logged):
            image = self.image(self.entry(number))
            if image.after is not None and image.key not in seen:
                seen.add(image.key)
                yield number, image

    def _numbers(self, where: str, values: tuple[Any, ...], logged: Entry) -> list[int]:
        schema, _, table = logged["table"].partition(".")
        sql = conflict_log.numbers(where, _RIVALS_MAX)
        return [int(number) for (number,) in self._asked(sql, (*values, schema, table))]

    def image(self, logged: Entry) -> _Image:
        """Return the remote version that an entry of ours holds.

        :raises DataError: it holds none.
        """
        ((blob,),) = self._asked(conflict_log.IMAGES, (logged["id"],))
        if blob is None:
            raise DataError(
                "the log holds no image of this row: its table has masked columns",
                site=self.site,
                table=logged["table"],
                hint="change the row as any user would; docs/conflicts.md tells how",
            )
        return read_image(blob)

    def mark(self, logged: Entry, number: int, slots: set[int], order: Order) -> int:
        """Settle ``number``, and what is open about these rows; return how many entries."""
        schema, _, table = logged["table"].partition(".")
        self.lane.run(
            conflict_log.settle(slots),
            (order.by[:128], order.text(), schema, table, number),
        )
        return self.lane.changed

    # ------------------------------------------------------------ rows

    def holds(self, table: TableMap, where: str) -> bool:
        """Return whether there is such a row; it is locked."""
        found = self.lane.rows(f"SELECT 1 FROM {table_name(table)} WHERE {where} FOR UPDATE")
        return bool(found)

    def count(self, table: TableMap, where: str) -> int:
        """Return how many such rows there are; they are locked."""
        return len(self.lane.rows(f"SELECT 1 FROM {table_name(table)} WHERE {where} FOR UPDATE"))

    def taken(self, image: _Image) -> str:
        """Return what is true of rows that hold a unique value of the image; '' for none."""
        keys = self._catalog.unique_keys(image.table) if image.after is not None else []
        found = [unique_condition(image.table, key, image.after or b"") for key in keys if key]
        return " OR ".join(f"({condition})" for condition in found if condition)

    def shown(self, table: str, row: dict[str, Any] | None) -> Any:
        """Return a row as the log has it."""
        from drc.rows.decoded import readable  # its library is slow to load

        if row is None:
            return None
        values = {name: readable(value) for name, value in row.items()}
        return json.loads(json.dumps(self._mask.row(table, values)))

    def write(self, table: TableMap, kind: int, images: list[bytes]) -> None:
        """Write a row by its image."""
        self.lane.apply([table.event, ev.rows_event(table, kind, images)])

    def update(self, table: TableMap, where: str, values: Mapping[str, str | None]) -> None:
        """Give a row other values.

        :raises ConfigError: they are those that it has, or not those of columns.
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
                "this is what the row holds, so there is nothing to replicate",
                hint="use --take local, or other values",
            )

    def _asked(self, sql: str, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        self.lane.run(sql, values)
        return self.lane.found


def read_image(blob: bytes) -> _Image:
    """Read a table map and a rows event of one row."""
    from drc.rows.decoded import images_at  # its library is slow to load

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
    """Return SQL text as it must stand beside values that are bound."""
    return sql.replace("%", "%%")


def _changed(what: str) -> DataError:
    return DataError(
        f"{what}: the row has changed since",
        stage="settle",
        hint="look again: `drc conflicts show`",
    )


def _format_description(config: Config, site: str) -> bytes:
    """Return the server's format description event, with which every dump begins."""
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
