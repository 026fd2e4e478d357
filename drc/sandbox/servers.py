"""A MySQL server of a sandbox: files, settings, accounts. Edge.

Passwords are random, stand in files of mode 0600 and never in a command line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pymysql

from drc.errors import TransientError
from drc.sandbox.fetch import Tree, cache_folder, locked
from drc.sandbox.process import ServerProcess

_GREETING_S = 90.0  # for a server that listens already but is still starting

# Production needs _SETTINGS; _QUICK makes a throw-away server quick.
_SETTINGS = (
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-bin=binlog",
    "--log-replica-updates=ON",
    "--max-allowed-packet=1G",
    "--default-time-zone=+00:00",
    "--partial-revokes=ON",  # schemas are not known yet: grant all, then revoke `mysql`
    "--log-bin-trust-function-creators=ON",  # lets `app` create triggers
    "--bind-address=127.0.0.1",
    "--mysqlx=OFF",
    "--secure-file-priv=NULL",
)
_QUICK = (
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-doublewrite=OFF",
    "--innodb-redo-log-capacity=64M",  # all of it is allocated at once
)
_DURABLE = (
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-redo-log-capacity=512M",
)
_MEMORY = ("--innodb-buffer-pool-size=512M",)
# A template is copied often, so the redo log is the smallest; a server enlarges the log at start.
_TEMPLATE = ("--innodb-redo-log-capacity=8M", "--innodb-doublewrite=OFF")

_APPLIER_DML = "SELECT, INSERT, UPDATE, DELETE"
_APPLIER_DDL = (
    "CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER,"
    " EVENT"
)
# (account, privileges); docs/operations/install.md explains each grant.
_GRANTS = (
    ("drc_source", "REPLICATION SLAVE, REPLICATION CLIENT, SELECT"),
    ("drc_applier", f"{_APPLIER_DML}, {_APPLIER_DDL}, REPLICATION CLIENT"),
    ("drc_applier", "REPLICATION_APPLIER, SET_USER_ID"),
    ("drc_operator", "SELECT, REPLICATION CLIENT"),
    ("app", f"{_APPLIER_DML}, {_APPLIER_DDL}, EXECUTE, LOCK TABLES, CREATE TEMPORARY TABLES"),
    ("app", "SESSION_VARIABLES_ADMIN"),  # clients switch binlog_transaction_compression
)
ACCOUNTS = ("drc_source", "drc_applier", "drc_operator", "app")


class SandboxSite(ServerProcess):
    """A MySQL server of a sandbox, running or not.

    :param folder: a folder of this server alone, for data, logs and password files.
    :param extra: more options of the ``mysqld`` command line.
    """

    logs = ("error.log", "output.log")

    def __init__(
        self, name: str, folder: Path, tree: Tree, port: int, server_id: int, extra: list[str]
    ) -> None:
        super().__init__(name, folder, port, f"--datadir={folder / 'data'}")
        self.tree = tree
        self.server_id = server_id
        self.extra = extra
        # A socket's path may have 107 bytes; a path inside the sandbox's folder may be longer.
        short = blake2b(str(folder).encode(), digest_size=6).hexdigest()
        self.socket = str(Path(tempfile.gettempdir()) / f"drc-{short}.sock")

    @property
    def version(self) -> str:
        """Return the server's version, for example ``9.7`` or ``8.0``."""
        return self.tree.version

    @property
    def data(self) -> Path:
        """Return the data folder."""
        return self.folder / "data"

    # ------------------------------------------------------------ life

    def prepare(self) -> None:
        """Make the data folder unless it exists: a copy of the version's :func:`template`."""
        if self.data.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(template(self.tree), fresh)
        (fresh / "auto.cnf").unlink(missing_ok=True)  # so each server makes a new UUID
        fresh.rename(self.data)

    def launch(self, *, durable: bool = False, die_with_parent: bool = False) -> None:
        """Start the process unless the server runs; do not wait until the server answers."""
        if self.pid:
            return
        Path(self.socket).unlink(missing_ok=True)
        Path(f"{self.socket}.lock").unlink(missing_ok=True)
        command = [
            *self.tree.command,
            f"--datadir={self.data}",
            f"--port={self.port}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'mysqld.pid'}",
            f"--log-error={self.folder / 'error.log'}",
            f"--server-id={self.server_id}",
            *_SETTINGS,
            *_MEMORY,
            *(_DURABLE if durable else _QUICK),
            *(["--user=root"] if os.getuid() == 0 else []),
            *self.extra,
        ]
        self.spawn(command, die_with_parent=die_with_parent)

    def answers(self) -> bool:
        """Return True once the server sends a greeting on the Unix socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_GREETING_S)
            try:
                probe.connect(self.socket)
                return bool(probe.recv(1))
            except OSError:
                return False

    def start(self, *extra: str, durable: bool = False, die_with_parent: bool = True) -> None:
        """Start the server and wait until the server answers.

        :param extra: if given, replaces the options of earlier starts.
        """
        if extra:
            self.extra = list(extra)
        self.launch(durable=durable, die_with_parent=die_with_parent)
        self.wait_ready()

    def _signal(self, number: int) -> None:
        super()._signal(number)
        if not self.pid:
            Path(self.socket).unlink(missing_ok=True)
            Path(f"{self.socket}.lock").unlink(missing_ok=True)

    # ------------------------------------------------------------ accounts

    def password_file(self, account: str) -> Path:
        """Return the path of an account's password file."""
        return self.folder / f"{account}.password"

    def password(self, account: str) -> str:
        """Return an account's password."""
        return self.password_file(account).read_text()

    def _has_accounts(self) -> bool:
        return self.password_file("root").exists()

    def create_accounts(self) -> None:
        """Create the accounts, unless the server has accounts, then empty the binlog.

        The statements that create accounts stay out of the binlog.
        """
        if self._has_accounts():
            return
        with self._root("") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            tags = self.version != "8.0"
            for account in ACCOUNTS:
                password = self._new_password(account)
                cursor.execute(f"CREATE USER {account}@'%%' IDENTIFIED BY %s", (password,))
            for account, grants in _GRANTS:
                # SET_USER_ID became SET_ANY_DEFINER and ALLOW_NONEXISTENT_DEFINER in 8.2.
                named = grants if not tags else grants.replace("SET_USER_ID", "SET_ANY_DEFINER")
                cursor.execute(f"GRANT {named} ON *.* TO {account}@'%'")
            for account in ("drc_applier", "app"):  # a write to `mysql` could create accounts
                writes = f"INSERT, UPDATE, DELETE, {_APPLIER_DDL}"
                cursor.execute(f"REVOKE {writes} ON mysql.* FROM {account}@'%'")
            if tags:
                cursor.execute("GRANT TRANSACTION_GTID_TAG ON *.* TO drc_applier@'%'")
            cursor.execute("GRANT ALL ON drc.* TO drc_operator@'%'")
            cursor.execute("RESET BINARY LOGS AND GTIDS" if tags else "RESET MASTER")
            password = self._new_password("root")
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute("ALTER USER root@localhost IDENTIFIED BY %s", (password,))

    def _new_password(self, account: str) -> str:
        password = secrets.token_urlsafe(18)
        path = self.password_file(account)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(password)
        return password

    def _root(self, password: str | None = None) -> pymysql.Connection[Any]:
        secret = self.password("root") if password is None else password
        return pymysql.connect(
            unix_socket=self.socket, user="root", password=secret, autocommit=True
        )

    def connect(self, account: str = "app", **options: Any) -> pymysql.Connection[Any]:
        """Open a connection with autocommit on.

        :param account: a name of ``ACCOUNTS``, or ``root``, which connects by the Unix socket.
        :param options: more arguments of ``pymysql.connect``.
        """
        if account == "root":
            place: dict[str, Any] = {"unix_socket": self.socket}
        else:
            place = {"host": self.host, "port": self.port}
        settings: dict[str, Any] = {
            "user": account,
            "password": self.password(account),
            "autocommit": True,
            "charset": "utf8mb4",
            "max_allowed_packet": 1 << 30,
            **place,
            **options,
        }
        return pymysql.connect(**settings)

    def query(self, sql: str, args: Any = None, account: str = "root") -> list[tuple[Any, ...]]:
        """Run a statement on a new connection; return the rows."""
        with self.connect(account) as conn, conn.cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())


def template(tree: Tree) -> Path:
    """Return an initialized data folder of this server version; the first call makes the folder.

    :raises TransientError: ``mysqld --initialize`` failed.
    """
    key = blake2b("\0".join((*tree.command, *_TEMPLATE)).encode(), digest_size=6).hexdigest()
    place = cache_folder() / f"data-{tree.version}-{key}"
    with locked(place):
        if not place.is_dir():
            fresh = Path(tempfile.mkdtemp(prefix="data.", dir=place.parent))
            (fresh / "log").mkdir()
            command = [
                *tree.command,
                f"--datadir={fresh / 'data'}",
                "--initialize-insecure",
                *_TEMPLATE,
                *(["--user=root"] if os.getuid() == 0 else []),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(fresh, ignore_errors=True)
                raise TransientError(f"mysqld --initialize failed: {done.stderr.strip()[-600:]}")
            (fresh / "data").rename(place)
            shutil.rmtree(fresh, ignore_errors=True)
    return place
