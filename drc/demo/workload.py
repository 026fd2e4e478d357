"""A marketplace: users, accounts, orders and their items, written at both sites at once. Edge.

No row is written at two sites: users with even numbers belong to a site, users with odd numbers to
the other site, and a user's orders and accounts are written at the user's site.

1. ``SUM(balance)`` is always the opening sum times the number of accounts, at each site: every
   account opens with the same sum, and money only moves between accounts of the same shard, in a
   single transaction. Any other sum means that a reader saw half a transaction.
2. With the same seed each thread decides the same; only the interleaving differs, as the servers
   schedule the threads.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pymysql

from drc.demo.worker import Pace
from drc.sandbox import SandboxSite

OPENING = Decimal(1000)
THREADS = 2  # per site: of two cores, the demo's own Python must leave enough to the daemon
_OPEN_ORDERS_MAX = 200  # per thread, to be paid, shipped or cancelled
_SEED_ROWS = 500
_LOCKED = (1205, 1213)

TABLES = (
    """CREATE TABLE users (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(190) NOT NULL,
  name VARCHAR(100) NOT NULL,
  profile JSON,
  orders_placed INT UNSIGNED NOT NULL DEFAULT 0,
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  UNIQUE KEY (email))""",
    """CREATE TABLE accounts (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id BIGINT UNSIGNED NOT NULL,
  kind ENUM('checking', 'savings') NOT NULL,
  balance DECIMAL(14,2) NOT NULL,
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  UNIQUE KEY (user_id, kind),
  FOREIGN KEY (user_id) REFERENCES users (id))""",
    """CREATE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  buyer_id BIGINT UNSIGNED NOT NULL,
  seller_id BIGINT UNSIGNED NOT NULL,
  status ENUM('placed', 'paid', 'shipped') NOT NULL DEFAULT 'placed',
  total DECIMAL(12,2) NOT NULL,
  note VARCHAR(200),
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY (buyer_id, created_at), KEY (status),
  FOREIGN KEY (buyer_id) REFERENCES users (id),
  FOREIGN KEY (seller_id) REFERENCES users (id))""",
    """CREATE TABLE order_items (
  order_id BIGINT UNSIGNED NOT NULL,
  line SMALLINT UNSIGNED NOT NULL,
  sku CHAR(8) CHARACTER SET ascii NOT NULL,
  quantity SMALLINT UNSIGNED NOT NULL,
  price DECIMAL(10,2) NOT NULL,
  PRIMARY KEY (order_id, line),
  FOREIGN KEY (order_id) REFERENCES orders (id))""",
)

_NAMES = ("Ada", "Bo", "Chloé", "Dmitrij", "Eun-ji", "Fatima", "Göran", "Hye", "Ines", "João", "李")
_NOTES = (None, None, "leave at the door", "prière de sonner", "ギフト包装", "🎁 wrap it, please")

Transaction = Callable[[pymysql.cursors.Cursor], None]


class Shard:
    """The users of a site, and the threads that act for the users.

    :param remainder: users whose number modulo ``sites`` is this remainder belong to the shard.
    :param sites: the number of sites.
    :param rate: transactions per second of all threads at most; 0: no limit.
    """

    def __init__(
        self,
        site: SandboxSite,
        schema: str,
        *,
        remainder: int,
        sites: int,
        seed: int,
        rate: float,
        threads: int = THREADS,
    ) -> None:
        self.site = site
        self._schema = schema
        self._offset = remainder or sites
        self._sites = sites
        self._seed = seed
        self._clerks = [_Clerk(self, f"{seed}:{site.name}:{n}") for n in range(threads)]
        self._rate = rate / threads
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None

    def connect(self) -> pymysql.Connection[Any]:
        """Open a session in which AUTO_INCREMENT gives only numbers of this shard."""
        conn = self.site.connect("app", database=self._schema, autocommit=False)
        with conn.cursor() as cursor:
            cursor.execute(
                "SET SESSION auto_increment_increment = %s, auto_increment_offset = %s",
                (self._sites, self._offset),
            )
        return conn

    def populate(self, users: int) -> None:
        """Sign up the first users.

        :param users: their number.
        """
        rng = random.Random(f"{self._seed}:{self.site.name}")
        with self.connect() as conn, conn.cursor() as cursor:
            for _ in range(0, users, _SEED_ROWS):
                _sign_up(cursor, rng, min(users, _SEED_ROWS))
                conn.commit()
            cursor.execute("SELECT id FROM users WHERE id %% %s = %s", self.numbers)
            members = [int(row[0]) for row in cursor.fetchall()]
        for clerk in self._clerks:
            clerk.users = members

    @property
    def numbers(self) -> tuple[int, int]:
        """Return (modulus, remainder) of this shard's user numbers."""
        return self._sites, self._offset % self._sites

    def start(self, stop: threading.Event) -> None:
        """Start the threads, which trade until stopped."""
        for clerk in self._clerks:
            thread = threading.Thread(target=self._run, args=(clerk, stop), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run(self, clerk: _Clerk, stop: threading.Event) -> None:
        try:
            clerk.run(stop, Pace(self._rate))
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        """Wait until the threads end.

        :raises Exception: the exception that ended a thread, if there is any.
        """
        for thread in self._threads:
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise the exception that ended a thread, if there is any."""
        if self._error is not None:
            raise self._error

    @property
    def committed(self) -> int:
        """Return the number of committed transactions."""
        return sum(clerk.committed for clerk in self._clerks)

    @property
    def deadlocks(self) -> int:
        """Return the number of deadlocks and lock wait timeouts; each ended a transaction."""
        return sum(clerk.deadlocks for clerk in self._clerks)


class _Clerk:
    """A client session of a shard."""

    def __init__(self, shard: Shard, seed: str) -> None:
        self._shard = shard
        self._rng = random.Random(seed)
        self._placed: deque[tuple[int, int, int, Decimal]] = deque(maxlen=_OPEN_ORDERS_MAX)
        self._paid: deque[int] = deque(maxlen=_OPEN_ORDERS_MAX)
        self.users: list[int] = []
        self.committed = self.deadlocks = 0
        self._deeds: list[tuple[Transaction, int]] = [
            (self._order, 35),
            (self._pay, 25),
            (self._ship, 15),
            (self._cancel, 5),
            (self._transfer, 17),
            (self._join, 3),
        ]

    def run(self, stop: threading.Event, pace: Pace) -> None:
        deeds, weights = zip(*self._deeds, strict=True)
        with self._shard.connect() as conn, conn.cursor() as cursor:
            while not stop.is_set():
                self._do(conn, cursor, self._rng.choices(deeds, weights)[0])
                pace.wait(stop)

    def _do(
        self, conn: pymysql.Connection[Any], cursor: pymysql.cursors.Cursor, deed: Transaction
    ) -> None:
        try:
            deed(cursor)
            conn.commit()
            self.committed += 1
        except pymysql.err.OperationalError as error:
            if error.args[0] not in _LOCKED:
                raise
            conn.rollback()
            self.deadlocks += 1

    def _order(self, cursor: pymysql.cursors.Cursor) -> None:
        rng = self._rng
        buyer, seller = rng.sample(self.users, 2)
        lines = [
            (
                line,
                f"SKU{rng.randrange(10**5):05}",
                rng.randint(1, 3),
                Decimal(rng.randint(99, 4999)) / 100,
            )
            for line in range(1, rng.randint(2, 5))
        ]
        total = sum((quantity * price for _, _, quantity, price in lines), Decimal(0))
        cursor.execute(
            "INSERT INTO orders (buyer_id, seller_id, total, note) VALUES (%s, %s, %s, %s)",
            (buyer, seller, total, rng.choice(_NOTES)),
        )
        order = cursor.lastrowid
        cursor.executemany(
            "INSERT INTO order_items (order_id, line, sku, quantity, price)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(order, *line) for line in lines],
        )
        cursor.execute("UPDATE users SET orders_placed = orders_placed + 1 WHERE id = %s", (buyer,))
        self._placed.append((order, buyer, seller, total))

    def _pay(self, cursor: pymysql.cursors.Cursor) -> None:
        if not self._placed:
            self._transfer(cursor)
            return
        order, buyer, seller, total = self._placed.popleft()
        _move(cursor, buyer, seller, total)
        cursor.execute("UPDATE orders SET status = 'paid' WHERE id = %s", (order,))
        self._paid.append(order)

    def _ship(self, cursor: pymysql.cursors.Cursor) -> None:
        if not self._paid:
            self._transfer(cursor)
            return
        cursor.execute(
            "UPDATE orders SET status = 'shipped' WHERE id = %s", (self._paid.popleft(),)
        )

    def _cancel(self, cursor: pymysql.cursors.Cursor) -> None:
        if not self._placed:
            self._transfer(cursor)
            return
        order = self._placed.popleft()[0]
        cursor.execute("DELETE FROM order_items WHERE order_id = %s", (order,))
        cursor.execute("DELETE FROM orders WHERE id = %s", (order,))

    def _transfer(self, cursor: pymysql.cursors.Cursor) -> None:
        payer, payee = self._rng.sample(self.users, 2)
        _move(cursor, payer, payee, Decimal(self._rng.randint(1, 5000)) / 100)

    def _join(self, cursor: pymysql.cursors.Cursor) -> None:
        _sign_up(cursor, self._rng, 1)


def _move(cursor: pymysql.cursors.Cursor, payer: int, payee: int, amount: Decimal) -> None:
    """Move money; write the lower user number first, so that two moves do not deadlock."""
    for user, sign in sorted(((payer, -1), (payee, 1))):
        cursor.execute(
            "UPDATE accounts SET balance = balance + %s WHERE user_id = %s AND kind = 'checking'",
            (sign * amount, user),
        )


def _sign_up(cursor: pymysql.cursors.Cursor, rng: random.Random, users: int) -> None:
    """Add users, each with two accounts."""
    emails = [f"{rng.getrandbits(64):016x}@example.com" for _ in range(users)]
    rows = [
        (email, rng.choice(_NAMES), f'{{"newsletter": {rng.choice(("true", "false"))}}}')
        for email in emails
    ]
    cursor.executemany("INSERT INTO users (email, name, profile) VALUES (%s, %s, %s)", rows)
    placeholders = ", ".join(["%s"] * users)
    for kind in ("checking", "savings"):
        cursor.execute(
            "INSERT INTO accounts (user_id, kind, balance)"
            f" SELECT id, %s, %s FROM users WHERE email IN ({placeholders})",
            (kind, OPENING, *emails),
        )
