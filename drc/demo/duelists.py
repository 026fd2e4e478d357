"""Duelists: clients that write the same few rows at both sites; and rows that collide. Edge.

1. ``seats``: rows are inserted, updated, deleted and inserted again. Of two concurrent writes a
   single write stays.
2. ``stock``: counters that both sites add to. At the end a counter must hold the sum of
   :attr:`Duelist.added` over all clients, as that counts only acknowledged changes.
3. ``members``: two members sign up with the same address at the same time. No policy may drop
   either row.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pymysql

from drc.demo.worker import Load, Pace
from drc.sandbox import SandboxSite

SEATS, ITEMS = 12, 4
PIECES = 1000  # of each item to begin with
THREADS = 2
COUNTERS = {"stock": ("pieces",)}
_DUPLICATE = 1062
_LOCKED = (1205, 1213)
_GUESTS = ("Ada", "Bo", "Chloé", "Dmitrij", "Eun-ji", "Fatima", "Göran", "Ines", "João", "李")

TABLES = (
    "CREATE TABLE seats (id INT PRIMARY KEY, guest VARCHAR(60) NOT NULL)",
    """CREATE TABLE stock (
  id INT PRIMARY KEY, pieces BIGINT NOT NULL, seen_by VARCHAR(60) NOT NULL DEFAULT '')""",
    """CREATE TABLE members (
  id INT PRIMARY KEY,
  email VARCHAR(190) NOT NULL,
  name VARCHAR(60) NOT NULL,
  UNIQUE KEY (email))""",
)


def populate(site: SandboxSite, schema: str) -> None:
    """Fill the tables ``seats`` and ``stock``."""
    with site.connect("app", database=schema) as conn, conn.cursor() as cursor:
        cursor.executemany("INSERT INTO seats VALUES (%s, '')", [(n,) for n in range(SEATS)])
        rows = [(n, PIECES) for n in range(ITEMS)]
        cursor.executemany("INSERT INTO stock (id, pieces) VALUES (%s, %s)", rows)


class Duelist(Load):
    """A client session at a site.

    :param rate: transactions per second at most; 0: no limit.
    :ivar committed: number of committed transactions.
    :ivar refused: number of transactions that ended in a deadlock or a lock wait timeout.
    :ivar added: pieces that the committed transactions added, by item.
    """

    def __init__(self, site: SandboxSite, schema: str, seed: str, rate: float) -> None:
        super().__init__()
        self.site = site
        self._schema, self._rate = schema, rate
        self._rng = random.Random(seed)
        self.committed = self.refused = 0
        self.added: Counter[int] = Counter()

    def work(self, stop: threading.Event) -> None:
        """Write until stopped."""
        pace = Pace(self._rate)
        with self.site.connect("app", database=self._schema, autocommit=False) as conn:
            while not stop.is_set():
                self._transact(conn)
                pace.wait(stop)

    def _transact(self, conn: pymysql.Connection[pymysql.cursors.Cursor]) -> None:
        added: dict[int, int] = {}
        try:
            with conn.cursor() as cursor:
                if self._rng.random() < 0.7:
                    self._seat(cursor)
                else:
                    added = self._count(cursor)
            conn.commit()
        except pymysql.err.OperationalError as error:
            if error.args[0] not in _LOCKED:
                raise
            conn.rollback()
            self.refused += 1
            return
        self.committed += 1
        self.added.update(added)

    def _seat(self, cursor: pymysql.cursors.Cursor) -> None:
        rng = self._rng
        seat, guest = rng.randrange(SEATS), f"{rng.choice(_GUESTS)} at {self.site.name}"
        deed = rng.random()
        if deed < 0.2:
            cursor.execute("DELETE FROM seats WHERE id = %s", (seat,))
        elif deed < 0.4:
            cursor.execute("INSERT IGNORE INTO seats VALUES (%s, %s)", (seat, guest))
        else:
            cursor.execute("UPDATE seats SET guest = %s WHERE id = %s", (guest, seat))

    def _count(self, cursor: pymysql.cursors.Cursor) -> dict[int, int]:
        item, pieces = self._rng.randrange(ITEMS), self._rng.randint(-5, 9)
        cursor.execute(
            "UPDATE stock SET pieces = pieces + %s, seen_by = %s WHERE id = %s",
            (pieces, f"clerk at {self.site.name}", item),
        )
        return {item: pieces}


def sign_up_twice(sites: list[SandboxSite], schema: str, attempt: int) -> None:
    """Let a different member at each site sign up with the same address at the same time."""
    gate = threading.Barrier(len(sites))

    def sign_up(number: int, site: SandboxSite) -> None:
        row = (attempt * len(sites) + number, f"ada{attempt}@example.com", f"Ada of {site.name}")
        with site.connect("app", database=schema) as conn, conn.cursor() as cursor:
            gate.wait()
            try:
                cursor.execute("INSERT INTO members VALUES (%s, %s, %s)", row)
            except pymysql.err.IntegrityError as error:
                if error.args[0] != _DUPLICATE:  # the other site's row is here already
                    raise

    with ThreadPoolExecutor(len(sites)) as pool:
        list(pool.map(sign_up, range(len(sites)), sites))
