"""The configuration of a pair, read from a TOML file.

This file holds every key with type, default and bound, the messages about wrong keys, and the
places of passwords. This file knows neither servers nor the effect of a setting.

1. A configuration that loads is consistent in itself. The servers are checked by preflight.
2. No object here holds a password, so that no repr, log line, ``--json`` document or traceback
   shows the password, and a new password needs no restart: each connection reads the password
   when the connection is opened.
3. An unknown key is an error, because a misspelt bound must not silently become the default.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
import tomllib
import types
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from drc.errors import ConfigError
from drc.gtid import GtidSet
from drc.policy import Policies, RowPolicy, TablePolicy, refuse_divergent

_NAME = "^[a-z][a-z0-9_-]{0,31}$"  # a name becomes part of SQL text, file names and thread names
Name = Annotated[str, msgspec.Meta(pattern=_NAME)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Listen = Annotated[str, msgspec.Meta(pattern=r"^$|^([^:/]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$")]
MiB = 1 << 20
GiB = 1 << 30

# Computed replica ids start here, far above the ids that people give to servers. MySQL accepts
# the whole 32-bit range, but two clients with the same id disconnect each other.
_SERVER_ID_BASE = 0x40000000

_LARGE_TEMPORARY = "/var/tmp"  # noqa: S108  # on disk, while /tmp may be memory; names are random

_TOKEN_CHARACTERS_MIN = 16  # of random text: too many to guess over a network


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all tables of the file: unknown keys are refused."""


class Account(_Strict, frozen=True):
    """A MySQL account; the password is in exactly one of the two places."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    password_env: str = ""
    password_file: str = ""

    def __post_init__(self) -> None:
        if bool(self.password_env) == bool(self.password_file):
            raise ValueError("exactly one of password_env and password_file must be set")

    def password(self) -> str:
        """Read the password now.

        :raises ConfigError: the password does not exist, or others may read the file.
        """
        return read_secret(self.password_env, self.password_file, f"the password of {self.user!r}")


class Tls(_Strict, frozen=True):
    """How a connection is encrypted and which server certificates are trusted.

    The default, ``verify_identity``, also checks that the certificate names the host.
    """

    mode: Literal["disabled", "required", "verify_ca", "verify_identity"] = "verify_identity"
    ca: str = ""
    cert: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key must be set together")


Role = Literal["source", "applier", "operator"]  # the accounts of drc at a site, by purpose


class SiteConfig(_Strict, frozen=True):
    """A datacenter's writable MySQL server and the accounts of drc there."""

    host: Annotated[str, msgspec.Meta(min_length=1)]
    source: Account
    applier: Account
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 3306
    operator: Account | None = None
    brokers: tuple[str, ...] = ()
    listen: Listen = ""
    tls: Tls = msgspec.field(default_factory=Tls)
    server_id: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFF00)] = 0


class ReplicateConfig(_Strict, frozen=True):
    """Which schemas and tables are replicated, and where a new stream begins."""

    schemas: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ()
    exclude_tables: tuple[Annotated[str, msgspec.Meta(pattern=r"^[^.]+\.[^.]+$")], ...] = ()
    ddl: Literal["replicate", "skip", "stop"] = "replicate"
    start: str = "now"

    def __post_init__(self) -> None:
        if self.start not in ("now", "earliest"):
            try:
                GtidSet.parse(self.start)
            except ConfigError as error:
                raise ValueError(
                    f"start must be 'now', 'earliest' or a GTID set: {error}"
                ) from error


class ApplyConfig(_Strict, frozen=True):
    """How changes are applied; conf/pair.toml gives the reason of each bound."""

    net_rows: bool = True
    parallel: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    lanes: Annotated[int, msgspec.Meta(ge=1, le=8)] = 3  # the ledger has 8 rows per origin
    batch_transactions_max: Positive = 2000
    batch_bytes_max: Positive = 4 * MiB
    batch_target_ms: Positive = 50
    batch_calm_ms: Positive = 250
    transactions_per_s_max: Annotated[int, msgspec.Meta(ge=0)] = 0
    queue_bytes_max: Positive = 16 * MiB
    lock_wait_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 2
    transaction_stream_bytes: Positive = 8 * MiB


class ConflictsConfig(_Strict, frozen=True):
    """How concurrent writes of the same row are found and resolved."""

    detect: bool = True
    index_slots_max: Annotated[int, msgspec.Meta(ge=1000)] = 1_000_000
    index_spill_bytes_max: Annotated[int, msgspec.Meta(ge=0)] = 4 * GiB
    index_spill_folder: str = ""
    policy: RowPolicy = "last_writer_wins"
    sites: tuple[str, ...] = ()
    tables: dict[Annotated[str, msgspec.Meta(pattern=r"^[^.]+\.[^.]+$")], TablePolicy] = (
        msgspec.field(default_factory=dict)
    )
    mask: tuple[Annotated[str, msgspec.Meta(pattern=r"^[^.]+\.[^.]+\.[^.]+$")], ...] = ()
    retention_days: Annotated[int, msgspec.Meta(ge=0)] = 30

    def __post_init__(self) -> None:
        TablePolicy(policy=self.policy, sites=self.sites)

    def policies(self) -> Policies:
        """Return the policies by table."""
        return Policies(TablePolicy(policy=self.policy, sites=self.sites), self.tables)


class SourceConfig(_Strict, frozen=True):
    """How binlogs are read."""

    heartbeat_s: Seconds = 1.0
    reconnect_backoff_max_s: Seconds = 30.0


class KafkaConfig(_Strict, frozen=True):
    """The Kafka transport between sites; used with ``log = "kafka"``."""

    brokers: tuple[Annotated[str, msgspec.Meta(pattern=r"^[^:/]+:[0-9]+$")], ...] = ()
    topic_prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "drc"
    account: Account | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    tls: Tls = msgspec.field(default_factory=Tls)
    replication_factor: Annotated[int, msgspec.Meta(ge=1, le=15)] = 3
    min_insync_replicas: Annotated[int, msgspec.Meta(ge=1, le=15)] = 2
    retention_hours: Positive = 168
    message_bytes_max: Annotated[int, msgspec.Meta(ge=1024)] = 1_000_000
    compression: Literal["zstd", "none"] = "zstd"
    client: Literal["librdkafka", "kafka-python"] = "librdkafka"
    request_timeout_s: Seconds = 5.0
    delivery_timeout_s: Seconds = 30.0
    idle_frame_s: Seconds = 5.0

    def __post_init__(self) -> None:
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas must not be above replication_factor")
        if self.delivery_timeout_s < self.request_timeout_s:
            raise ValueError("delivery_timeout_s must not be below request_timeout_s")


class WebConfig(_Strict, frozen=True):
    """The address at which a daemon serves HTTP, and the required token; off by default."""

    listen: Listen = ""
    token_env: str = ""
    token_file: str = ""

    def __post_init__(self) -> None:
        if self.token_env and self.token_file:
            raise ValueError("token_env and token_file cannot both be set")

    def token(self) -> str:
        """Read the token now; '' if no token is required.

        :raises ConfigError: as :meth:`Account.password`, or the token is too short.
        """
        if not (self.token_env or self.token_file):
            return ""
        token = read_secret(self.token_env, self.token_file, "the web token")
        if len(token) < _TOKEN_CHARACTERS_MIN:
            raise ConfigError(
                f"the web token has fewer than {_TOKEN_CHARACTERS_MIN} characters",
                hint="run `openssl rand -hex 24` to make a token",
            )
        return token


class MonitorConfig(_Strict, frozen=True):
    """Rows that a site writes to be monitored; by default a site writes no such rows."""

    canary_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0

    def __post_init__(self) -> None:
        if 0 < self.canary_s < 1:
            raise ValueError("canary_s must be at least 1, or 0 for no canaries")


class AlertsConfig(_Strict, frozen=True):
    """The limits of alerts, and the webhook that alerts are posted to; empty: nothing is posted."""

    webhook_url: Annotated[str, msgspec.Meta(pattern=r"^$|^https?://[^/@\s]+(/\S*)?$")] = ""
    secret_env: str = ""
    secret_file: str = ""
    timeout_s: Seconds = 5.0
    behind_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    blocked_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    paused_s: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    late_conflicts_max: Annotated[int, msgspec.Meta(ge=0)] = 0
    clear_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    repeat_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0

    def __post_init__(self) -> None:
        if self.secret_env and self.secret_file:
            raise ValueError("secret_env and secret_file cannot both be set")

    def secret(self) -> str:
        """Read the bearer token for the webhook now; '' if no secret is set.

        :raises ConfigError: as :meth:`Account.password`.
        """
        if not (self.secret_env or self.secret_file):
            return ""
        return read_secret(self.secret_env, self.secret_file, "the webhook's secret")


class Config(_Strict, frozen=True):
    """The whole configuration; ``sites`` is in the order of the file."""

    name: Name
    sites: dict[str, SiteConfig]
    state_url: str = ""
    state_password_env: str = ""
    state_password_file: str = ""
    log: Literal["direct", "kafka"] = "direct"
    kafka: KafkaConfig = msgspec.field(default_factory=KafkaConfig)
    replicate: ReplicateConfig = msgspec.field(default_factory=ReplicateConfig)
    apply: ApplyConfig = msgspec.field(default_factory=ApplyConfig)
    conflicts: ConflictsConfig = msgspec.field(default_factory=ConflictsConfig)
    source: SourceConfig = msgspec.field(default_factory=SourceConfig)
    web: WebConfig = msgspec.field(default_factory=WebConfig)
    monitor: MonitorConfig = msgspec.field(default_factory=MonitorConfig)
    alerts: AlertsConfig = msgspec.field(default_factory=AlertsConfig)

    def site(self, name: str) -> SiteConfig:
        """Return the settings of site ``name``.

        :raises ConfigError: no such site; the hint names the nearest.
        """
        if name not in self.sites:
            raise ConfigError(
                f"no site {name!r} in this configuration", hint=_near(name, self.sites)
            )
        return self.sites[name]

    def account(self, site: str, role: Role) -> Account:
        """Return the account of ``role`` at a site.

        :raises ConfigError: no such site, or no operator account, which only some commands need.
        """
        account: Account | None = getattr(self.site(site), role)
        if account is None:
            raise ConfigError(
                f"no {role} account is configured",
                site=site,
                hint=f"set `{role}` in [sites.{site}], as the daemon's accounts have no right to"
                " this; `drc docs install` lists the grants",
            )
        return account

    def brokers(self, site: str) -> tuple[str, ...]:
        """Return the brokers of the Kafka cluster that holds the topic of ``site``."""
        return self.sites[site].brokers or self.kafka.brokers

    def listen(self, site: str) -> tuple[str, int] | None:
        """Return host and port that the daemon of ``site`` serves HTTP at; None: no HTTP."""
        host, _, port = (self.sites[site].listen or self.web.listen).rpartition(":")
        return (host.strip("[]"), int(port)) if host else None

    def require_brokers(self, site: str) -> None:
        """Check that ``site`` has a Kafka cluster, for any value of ``log``.

        :raises ConfigError: no brokers are set for ``site``.
        """
        if not self.brokers(site):
            raise ConfigError(
                f"sites.{site}: no Kafka brokers are set",
                hint='set kafka.brokers = ["host:9092"], or brokers for this site',
            )

    def topic(self, site: str) -> str:
        """Return the topic that holds the native transactions of ``site``."""
        return f"{self.kafka.topic_prefix}.{self.name}.{site}"

    def stream(self, site: str) -> str:
        """Return the name that the frames of ``site`` carry, such as ``shop/shanghai``."""
        return f"{self.name}/{site}"

    def dump_server_id(self, origin: str, reader: str) -> int:
        """Return the replica id that ``reader`` presents to ``origin``, the same at every start.

        All replicas of a server must have different ids, so the id depends on the stream.

        :param reader: the target's name, or the name of another client such as ``tail``.
        """
        base = self.sites[origin].server_id
        if base:
            readers = [*self.sites, "tail"]
            return base + (readers.index(reader) if reader in readers else len(readers))
        digest = zlib.crc32(f"{self.name}:{origin}:{reader}".encode())
        return _SERVER_ID_BASE | digest & (_SERVER_ID_BASE - 1)

    def state_password(self) -> str:
        """Read the checkpoint store's password now; '' if no password is set.

        :raises ConfigError: as :meth:`Account.password`.
        """
        if not (self.state_password_env or self.state_password_file):
            return ""
        return read_secret(
            self.state_password_env, self.state_password_file, "the checkpoint store's password"
        )


# ------------------------------------------------------------ secrets


def read_secret(env: str, file: str, what: str) -> str:
    """Read a secret from the environment or from a file that only the owner may read.

    :param what: the secret's name for messages, such as ``the web token``.
    :raises ConfigError: the secret does not exist, or others may read the file.
    """
    if env:
        if (value := os.environ.get(env)) is None:
            raise ConfigError(
                f"{what}: environment variable {env} is not set",
                hint=f"set {env}, or name a file in place of the variable",
            )
        return value
    path = Path(file)
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{what} cannot be read from {path}: {error}",
            hint="write the secret to that file, then run `chmod 600` on the file",
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{what}: {path} can be read by others than its owner (mode {stat.S_IMODE(mode):04o})",
            hint=f"run `chmod 600 {path}`",
        )
    return text.rstrip("\r\n")


# ------------------------------------------------------------ loading


def load(path: str | Path) -> Config:
    """Read a configuration file; relative paths in the file start at the file's folder.

    :raises ConfigError: no such file, not TOML, or a wrong key or value, named by path.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"configuration {path} cannot be read: {error.strerror}",
            hint=f"check the path after -c, or run `drc config example > {path}`",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}", hint="fix the line that the message names"
        ) from error
    return parse(raw, path.parent)


def parse(raw: dict[str, Any], folder: Path) -> Config:
    """Return the configuration in a parsed file; pure.

    :param folder: the folder at which relative paths start.
    :raises ConfigError: a key or value is wrong; the message names the path of the first.
    """
    _refuse_unknown(raw, Config, "")
    _resolve_paths(raw, folder)
    sites = raw.get("sites")
    if isinstance(sites, dict):  # one by one, as the path of msgspec does not name a dict's key
        raw = {**raw, "sites": {}}
        for name, table in sites.items():
            if not re.match(_NAME, name):
                raise ConfigError(
                    f"sites.{name} is not a valid site name: a name has lower-case letters, digits,"
                    " - and _, at most 32, and begins with a letter",
                    hint="rename the site",
                )
            raw["sites"][name] = _convert(table, SiteConfig, f"sites.{name}")
    conflicts = raw.get("conflicts")
    if isinstance(conflicts, dict) and isinstance(tables := conflicts.get("tables"), dict):
        named = {n: _convert(t, TablePolicy, f'conflicts.tables."{n}"') for n, t in tables.items()}
        raw = {**raw, "conflicts": {**conflicts, "tables": named}}
    config: Config = _convert(raw, Config, "")
    _refuse_contradictions(config)
    return _with_places(config, folder)


def dump_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration file, for editors."""
    return msgspec.json.schema(Config)


def _convert(raw: Any, kind: type[Any], prefix: str) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).rpartition(" - at `$")
        if not text:
            text, path = str(error), "`"
        where = (prefix + path.rstrip("`")).strip(".")
        raise ConfigError(
            f"{where}: {text[0].lower()}{text[1:]}" if where else text,
            hint="run `drc config schema` for the type of each key, `drc config example` for its"
            " meaning",
        ) from error


def _refuse_unknown(raw: Any, kind: Any, path: str) -> None:
    """Refuse an unknown key and name the nearest key, which msgspec would not name."""
    kind = _struct_of(kind)
    if not isinstance(raw, dict) or kind is None:
        return
    if get_origin(kind) is dict:
        for key, value in raw.items():
            _refuse_unknown(value, get_args(kind)[1], f"{path}{key}.")
        return
    fields = {f.name: f.type for f in msgspec.structs.fields(kind)}
    for key, value in raw.items():
        if key not in fields:
            raise ConfigError(f"{path}{key} is not a valid key", hint=_near(key, fields))
        _refuse_unknown(value, fields[key], f"{path}{key}.")


def _struct_of(kind: Any) -> Any:
    """Return the struct or dict type inside optional and annotated types; None if neither."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _struct_of(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return next((s for k in get_args(kind) if (s := _struct_of(k)) is not None), None)
    if origin is dict:
        return kind
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def _near(word: str, known: Any) -> str:
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"choose from: {', '.join(words)}"


def _resolve_paths(raw: Any, folder: Path) -> None:
    if not isinstance(raw, dict):
        return
    for key, value in raw.items():
        if key in (
            "password_file",
            "state_password_file",
            "token_file",
            "secret_file",
            "ca",
            "cert",
            "key",
            "index_spill_folder",
        ):
            if isinstance(value, str) and value:
                raw[key] = str(folder.absolute() / Path(value).expanduser())
        else:
            _resolve_paths(value, folder)


def _refuse_contradictions(config: Config) -> None:
    if len(config.sites) < 2:
        raise ConfigError(
            f"sites: {len(config.sites)} given, at least two are needed",
            hint="add a table [sites.NAME] for each datacenter",
        )
    by_address: dict[tuple[str, int], str] = {}
    for name, site in config.sites.items():
        address = (site.host, site.port)
        if address in by_address:
            raise ConfigError(
                f"sites.{name}: the same server as sites.{by_address[address]}"
                f" ({site.host}:{site.port})",
                hint="set host and port to a server of its own for each site",
            )
        by_address[address] = name
        if config.log == "kafka":
            config.require_brokers(name)
        _refuse_open_door(config, name)
    conflicts, names = config.conflicts, tuple(config.sites)
    if conflicts.detect and len(names) > 2:
        raise ConfigError(
            f"conflicts.detect: concurrent writes can be found between 2 sites, not {len(names)}",
            hint="set conflicts.detect = false, and let only a single site write each row",
        )
    whole = TablePolicy(policy=conflicts.policy, sites=conflicts.sites)
    refuse_divergent(whole, names, "conflicts")
    for table, policy in conflicts.tables.items():
        refuse_divergent(policy, names, f'conflicts.tables."{table}"')
    if re.match(r"[^/]*//[^/@]*:[^/@]*@", config.state_url):
        raise ConfigError(
            "state_url must not hold a password",
            hint="set state_password_env or state_password_file instead",
        )


def _refuse_open_door(config: Config, name: str) -> None:
    address = config.listen(name)
    if not address or config.web.token_env or config.web.token_file:
        return
    if not _is_loopback(address[0]):
        raise ConfigError(
            f"sites.{name}: cannot listen on {address[0]} without a token",
            hint="set web.token_file or web.token_env, or listen on 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_places(config: Config, folder: Path) -> Config:
    """Return ``config`` with an absolute path of the checkpoint store, and with a spill folder."""
    url = config.state_url or f"sqlite:///{config.name}.state.db"
    if match := re.fullmatch(r"sqlite:///([^/:].*)", url):
        url = f"sqlite:///{folder.absolute() / match[1]}"
    conflicts = config.conflicts
    if not conflicts.index_spill_folder:
        beside = re.fullmatch(r"sqlite:///(/.*)", url)
        place = str(Path(beside[1]).parent) if beside else _LARGE_TEMPORARY
        conflicts = msgspec.structs.replace(conflicts, index_spill_folder=place)
    return msgspec.structs.replace(config, state_url=url, conflicts=conflicts)
