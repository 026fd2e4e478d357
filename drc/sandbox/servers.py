"""One MySQL server of a sandbox: its files, its settings, its accounts. Edge.

Passwords are random, in files of mode 0600, and never in a command line.
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

_GREETING_S = 90.0  # of a server that listens already but still starts

# What production needs, and then what makes a throw-away server quick.
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
    "--partial-revokes=ON",  # schemas are not known yet: grant all, and take `mysql` out
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
# A template is copied often: it has the least redo log, which servers enlarge as they start.
_TEMPLATE = ("--innodb-redo-log-capacity=8M", "--innodb-doublewrite=OFF")

_APPLIER_DML = "SELECT, INSERT, UPDATE, DELETE"
_APPLIER_DDL = (
    "CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER,"
    " EVENT"
)
# (account, what it is granted); docs/operations/install.md explains each.
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
    """A server of a sandbox; usable whether it runs or not.

    :param folder: its own; data, logs and password files live there.
    """

    logs = ("error.log", "output.log")

    def __init__(
        self, name: str, folder: Path, tree: Tree, port: int, server_id: int, extra: list[str]
    ) -> None:
        super().__init__(name, folder, port, f"--datadir={folder / 'data'}")
        self.tree = tree
        self.server_id = server_id
        self.extra = extra
        # A socket's path may have 107 bytes; the sandbox may live deeper.
        short = blake2b(str(folder).encode(), digest_size=6).hexdigest()
        self.socket = str(Path(tempfile.gettempdir()) / f"drc-{short}.sock")

    @property
    def version(self) -> str:
        """Return ``9.7`` or ``8.0``."""
        return self.tree.version

    @property
    def data(self) -> Path:
        """Return the data folder."""
        return self.folder / "data"

    # ------------------------------------------------------------ life

    def prepare(self) -> None:
        """Make the data folder, from a template that is initialized once per version."""
        if self.data.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(template(self.tree), fresh)
        (fresh / "auto.cnf").unlink(missing_ok=True)  # each server gets a UUID of its own
        fresh.rename(self.data)

    def launch(self, *, durable: bool = False, die_with_parent: bool = False) -> None:
        """Start the process without waiting for it."""
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
        """Return True once the server greets on its socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_GREETING_S)
            try:
                probe.connect(self.socket)
                return bool(probe.recv(1))
            except OSError:
                return False

    def start(self, *extra: str, durable: bool = False, die_with_parent: bool = True) -> None:
        """Start it and wait; ``extra`` replaces the options given before."""
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
        """Return where an account's password is."""
        return self.folder / f"{account}.password"

    def password(self, account: str) -> str:
        """Return an account's password."""
        return self.password_file(account).read_text()

    def _has_accounts(self) -> bool:
        return self.password_file("root").exists()

    def create_accounts(self) -> None:
        """Create what is missing, outside the binlog, and let the binlog begin empty."""
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
            for account in ("drc_applier", "app"):  # writing there would be creating accounts
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
        """Open a connection as one of the accounts, root by the socket; autocommit is on."""
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
        """Run one statement on a connection of its own; return its rows."""
        with self.connect(account) as conn, conn.cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())


def template(tree: Tree) -> Path:
    """Return an initialized data folder of this server version, made at first use."""
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
