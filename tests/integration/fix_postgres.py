"""A PostgreSQL server for tests: Debian's, unpacked into the cache, run from a separate folder.

PostgreSQL refuses to run as root. Under root the server runs as `nobody`, in a folder that `nobody`
may enter: neither a cache below a home nor a test's own folder allows that.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from drc.errors import DrcError
from drc.sandbox.fetch import Say, cached, loader, unpack_debian
from drc.sandbox.process import ServerProcess, free_port

_SUITE, _PACKAGE = "trixie", "postgresql-17"
_PARTS = ("usr/lib/postgresql", "usr/share/postgresql")
_NOBODY = 65534
# `initdb` starts `postgres` by itself; that start, too, must go through the loader of the tree.
_RUN = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/loader" --library-path "$here/libraries" "$here/NAME.real" "$@"
"""


def _fetch(into: Path, say: Say) -> None:
    """Unpack the server; keep only the needed files, so that a copy takes no time."""
    with tempfile.TemporaryDirectory(prefix="drc-postgres-", dir=into.parent) as work:
        whole = Path(work)
        unpack_debian(_SUITE, (_PACKAGE,), whole, say)
        for part in _PARTS:
            (into / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(whole / part, into / part)
        own, _, path = loader(whole)
        programs = _programs(into)
        shutil.copy2(own, programs / "loader")
        (programs / "libraries").mkdir()
        folder = Path(path.partition(":")[0])
        for library in _needed(own, folder, programs):
            shutil.copy2(library, programs / "libraries")
    for name in ("initdb", "postgres"):
        (programs / name).rename(programs / f"{name}.real")
        run = programs / name
        run.write_text(_RUN.replace("NAME", name))
        run.chmod(0o755)


def _programs(root: Path) -> Path:
    return next(root.glob("usr/lib/postgresql/*/bin"))


def _needed(own: str, folder: Path, programs: Path) -> set[Path]:
    """Return the libraries of the programs and of the modules that the programs load by name."""
    loaded = [programs / "postgres", programs / "initdb", *programs.parent.glob("lib/*.so")]
    out: set[Path] = set()
    for program in loaded:
        command = [own, "--library-path", str(folder), "--list", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        names = (line.split() for line in done.stdout.splitlines())
        out |= {Path(w[2]) for w in names if len(w) > 2 and w[2].startswith(str(folder))}
    return out


class Postgres(ServerProcess):
    """A PostgreSQL server; the user ``drc`` may create databases."""

    def __init__(self, folder: Path, programs: Path) -> None:
        port = free_port()
        super().__init__("postgres", folder, port, f"--port={port}")
        self._programs = programs
        self.password = secrets.token_hex(12)

    def begin(self) -> None:
        """Create the files of the server and start the server."""
        file = self.folder / "password"
        file.write_text(self.password)
        data = self.folder / "data"
        user = _NOBODY if os.getuid() == 0 else None
        if user:
            for path in (self.folder, file):
                os.chown(path, user, user)
        command = [str(self._programs / "initdb"), f"--pgdata={data}", "--username=drc"]
        command += ["--no-locale", "--encoding=UTF8", "--auth=scram-sha-256"]
        command += [f"--pwfile={file}", "--no-sync"]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.folder, user=user, group=user
        )
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        server = [str(self._programs / "postgres"), "-D", str(data), f"--port={self.port}"]
        server += [part for setting in settings for part in ("-c", setting)]
        self.spawn(server, die_with_parent=True, user=user)

    def answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.query("SELECT 1")
            return True
        return False

    def url(self, database: str) -> str:
        """Return the URL of a database, without the password."""
        return f"postgresql+psycopg://drc@{self.host}:{self.port}/{database}"

    def query(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        with closing(
            psycopg.connect(
                host=self.host,
                port=self.port,
                user="drc",
                password=self.password,
                dbname=database,
                autocommit=True,
                connect_timeout=5,
            )
        ) as conn:
            cursor = conn.execute(sql)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a separate PostgreSQL server."""
    try:
        root = cached(_PACKAGE, _fetch, print)
    except DrcError as error:
        pytest.skip(f"no PostgreSQL here: {error}")
    with tempfile.TemporaryDirectory(prefix="drc-postgres-") as work:
        Path(work).chmod(0o755)
        shutil.copytree(root, Path(work, "tree"), symlinks=True)
        folder = Path(work, "server")
        folder.mkdir()
        server = Postgres(folder, _programs(Path(work, "tree")))
        server.begin()
        server.wait_ready()
        yield server
        server.stop()
