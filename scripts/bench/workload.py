"""The load at the source: sysbench, and a table of 60 mixed columns. Edge.

The mixed load is seeded. Each thread of the mixed load has separate keys, so there are no lock
waits, and the replicas can apply in parallel.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymysql.constants import CLIENT

from drc.sandbox import SandboxSite, fetch_tool

TABLES, ROWS, THREADS = 4, 100_000, 8
MIXED_THREADS = 4
_STEADY_MAX_S = 600  # in case nobody ends the load
_MIXED_ROWS = 5_000  # of each thread, before the load
_MIXED_POOL = 300  # different rows, made once: making a row costs more than writing the row
_KEYS = 10_000_000  # between the first keys of two threads

Value = Callable[[random.Random], str]


class Sysbench:
    """The load ``oltp_write_only`` of sysbench at a site.

    :param folder: folder for the file of options, which has mode 0600, as it holds a password.
    :param rows: number of rows of each table.
    """

    def __init__(
        self, site: SandboxSite, folder: Path, schema: str = "sbtest", rows: int = ROWS
    ) -> None:
        self._command = [*fetch_tool("sysbench"), "oltp_write_only"]
        self._rows = rows
        self._options = folder / f"sysbench.{site.name}.{schema}.cnf"
        with open(
            os.open(self._options, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as file:
            file.write(
                f"mysql-socket={site.socket}\nmysql-user=app\nmysql-password="
                f"{site.password('app')}\nmysql-db={schema}\n"
            )

    def start(self, verb: str, *options: str) -> subprocess.Popen[str]:
        """Start sysbench in the background.

        :param verb: ``prepare`` or ``run``.
        :param options: more options, for example ``--threads=4``.
        """
        # sysbench reads options of a script from the command line only, not from the file.
        size = (f"--tables={TABLES}", f"--table-size={self._rows}")
        return subprocess.Popen(
            [*self._command, f"--config-file={self._options}", *size, *options, verb],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def prepare(self) -> None:
        """Create and fill the tables."""
        finish(self.start("prepare", f"--threads={TABLES}"))

    def run(self, transactions: int, rand_type: str) -> None:
        """Write transactions with 8 threads.

        :param transactions: their number.
        :param rand_type: distribution of keys, for example ``uniform``; "" is sysbench's default.
        """
        options = [f"--threads={THREADS}", f"--events={transactions}", "--time=0"]
        finish(self.start("run", *options, *([f"--rand-type={rand_type}"] if rand_type else [])))

    def at_rate(self, rate: int) -> subprocess.Popen[str]:
        """Start a steady load that goes on until the process is ended, for at most 600 s.

        :param rate: transactions per second.
        """
        return self.start("run", "--threads=4", f"--rate={rate}", f"--time={_STEADY_MAX_S}")


def finish(process: subprocess.Popen[str]) -> None:
    """Wait until sysbench ends.

    :raises RuntimeError: sysbench failed; the message has the end of the output.
    """
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"sysbench failed:\n{said[-2000:]}")


# ------------------------------------------------------------ 60 columns


def _text(low: int, high: int) -> Value:
    letters = "abcdefghij klmnopqrst äöü 数据"
    return lambda r: "'" + "".join(r.choices(letters, k=r.randint(low, high))) + "'"


def _number(low: int, high: int) -> Value:
    return lambda r: str(r.randint(low, high))


def _decimal(digits: int, scale: int) -> Value:
    return lambda r: f"{r.randint(-(10**digits), 10**digits)}.{r.randrange(10**scale):0{scale}d}"


def _bytes(low: int, high: int) -> Value:
    return lambda r: f"x'{r.randbytes(r.randint(low, high)).hex()}'"


def _date(r: random.Random) -> str:
    return f"'{r.randint(1970, 2037)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}'"


def _time(r: random.Random) -> str:
    return f"'{r.randint(0, 23):02d}:{r.randint(0, 59):02d}:{r.randint(0, 59):02d}.123456'"


def _moment(r: random.Random) -> str:
    return f"{_date(r)[:-1]} {_time(r)[1:]}"


def _json(r: random.Random) -> str:
    return f'\'{{"n": {r.randint(0, 9999)}, "tags": ["a", "{r.randint(0, 99)}"], "ok": true}}\''


_KINDS: tuple[tuple[str, Value], ...] = (
    ("INT", _number(-(2**31), 2**31 - 1)),
    ("INT UNSIGNED", _number(0, 2**32 - 1)),
    ("BIGINT", _number(-(2**63), 2**63 - 1)),
    ("BIGINT UNSIGNED", _number(0, 2**64 - 1)),
    ("SMALLINT", _number(-32768, 32767)),
    ("MEDIUMINT", _number(-8388608, 8388607)),
    ("TINYINT", _number(-128, 127)),
    ("DECIMAL(10,2)", _decimal(7, 2)),
    ("DECIMAL(18,6)", _decimal(11, 6)),
    ("DOUBLE", lambda r: repr(r.uniform(-1e9, 1e9))),
    ("FLOAT", _number(-1000, 1000)),
    ("VARCHAR(40)", _text(0, 40)),
    ("VARCHAR(200)", _text(10, 80)),
    ("CHAR(12)", _text(0, 12)),
    ("TEXT", _text(20, 120)),
    ("VARBINARY(32)", _bytes(0, 32)),
    ("BLOB", _bytes(0, 60)),
    ("JSON", _json),
    ("DATE", _date),
    ("DATETIME", _moment),
    ("DATETIME(6)", _moment),
    ("TIMESTAMP(3)", lambda r: f"FROM_UNIXTIME({r.randint(1, 2_000_000_000)}.125)"),
    ("TIME(3)", _time),
    ("YEAR", _number(1901, 2155)),
    ("ENUM('new','paid','sent','done')", lambda r: r.choice(("'new'", "'paid'", "'sent'"))),
    ("SET('a','b','c','d','e')", lambda r: r.choice(("''", "'a'", "'b,d'", "'a,c,e'"))),
    ("BIT(1)", _number(0, 1)),
    ("BIT(20)", _number(0, 2**20 - 1)),
    ("BINARY(16)", _bytes(16, 16)),
)
_COLUMNS = 59  # and the key
_NULL_SHARE = 0.15
# NULLs in a few columns make few combinations; in all columns, nearly every row is unlike the rest.
NULLABLE = {"mixed": 6, "sparse": _COLUMNS}


class Mixed:
    """A load of inserts, updates and deletes on a table of 60 mixed columns.

    :param case: a key of ``NULLABLE``, which is also the table's name.
    """

    def __init__(self, site: SandboxSite, case: str) -> None:
        self._site = site
        self.name = f"bench.{case}"
        self._kinds = [_KINDS[i % len(_KINDS)] for i in range(_COLUMNS)]
        step = _COLUMNS // NULLABLE[case]  # spread over the kinds
        values = [
            (value, i % step == 0 and i // step < NULLABLE[case])
            for i, (_, value) in enumerate(self._kinds)
        ]
        self._writers = [_Writer(n, self.name, values) for n in range(MIXED_THREADS)]

    def prepare(self) -> None:
        """Create and fill the table."""
        columns = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(self._kinds))
        self._site.query(
            f"CREATE TABLE {self.name} (id BIGINT PRIMARY KEY, {columns}, KEY (c0), KEY (c11))"
        )
        self._in_threads(lambda w, send: w.fill(send))

    def run(self, transactions: int) -> None:
        """Write ``transactions`` transactions, an equal part with each thread."""
        self._in_threads(lambda w, send: w.write(send, transactions // MIXED_THREADS))

    def _in_threads(self, body: Callable[[_Writer, Callable[[str], None]], None]) -> None:
        errors: list[BaseException] = []

        def one(writer: _Writer) -> None:
            try:
                options: dict[str, Any] = {"client_flag": CLIENT.MULTI_STATEMENTS}
                with self._site.connect("root", **options) as conn, conn.cursor() as cursor:

                    def send(sql: str) -> None:
                        cursor.execute(sql)
                        while cursor.nextset():
                            pass

                    body(writer, send)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=(w,)) for w in self._writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


class _Writer:
    """The keys and rows of a thread."""

    def __init__(self, number: int, table: str, values: list[tuple[Value, bool]]) -> None:
        self._random = rng = random.Random(number)
        self._table = table
        self._next = number * _KEYS + 1
        self._live: list[int] = []
        self._pool = [
            [
                "NULL" if nullable and rng.random() < _NULL_SHARE else value(rng)
                for value, nullable in values
            ]
            for _ in range(_MIXED_POOL)
        ]

    def fill(self, send: Callable[[str], None]) -> None:
        for _ in range(_MIXED_ROWS // 100):
            send(";".join(["BEGIN", *(self._insert() for _ in range(100)), "COMMIT"]))

    def write(self, send: Callable[[str], None], transactions: int) -> None:
        """Write transactions of 2 to 4 rows; the size of the table stays about the same."""
        for _ in range(transactions):
            statements = [self._update() for _ in range(self._random.randint(1, 2))]
            draw = self._random.random()
            if draw < 0.4:
                statements.append(self._insert())
            elif draw < 0.8:
                statements.append(self._delete())
            else:
                statements += [self._delete(), self._insert()]
            send(";".join(["BEGIN", *statements, "COMMIT"]))

    def _insert(self) -> str:
        key, self._next = self._next, self._next + 1
        self._live.append(key)
        return f"INSERT INTO {self._table} VALUES ({key}, {', '.join(self._row())})"

    def _update(self) -> str:
        row, rng = self._row(), self._random
        sets = ", ".join(f"c{i} = {row[i]}" for i in rng.sample(range(_COLUMNS), 6))
        return f"UPDATE {self._table} SET {sets} WHERE id = {rng.choice(self._live)}"

    def _delete(self) -> str:
        place = self._random.randrange(len(self._live))
        self._live[place], key = self._live[-1], self._live[place]
        self._live.pop()
        return f"DELETE FROM {self._table} WHERE id = {key}"

    def _row(self) -> list[str]:
        return self._random.choice(self._pool)
