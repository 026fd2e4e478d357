"""Every error of the daemon, classed by who must act and how.

A caller needs one answer from an error: fix and start again, change the server, wait and
retry, park the data, or file a bug. The class gives that answer; the fields say where it
happened; ``hint`` is the sentence an operator acts on. A conflict is no error: it is a value.

This file does not know pymysql: edges translate a server's errno with :func:`from_errno`.
"""

from __future__ import annotations


class DrcError(Exception):
    """Base of all errors; renders as ``message [stage=… gtid=… table=… key=…]. hint``."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        site: str = "",
        stage: str = "",
        gtid: str = "",
        table: str = "",
        key: str = "",
        errno: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.site = site
        self.stage = stage
        self.gtid = gtid
        self.table = table
        self.key = key
        self.errno = errno

    def fields(self) -> dict[str, str]:
        """Return the non-empty context fields, for logs and ``--json``."""
        names = ("site", "stage", "gtid", "table", "key", "hint")
        return {n: v for n in names if (v := getattr(self, n))}

    def __str__(self) -> str:
        where = " ".join(
            f"{n}={v}" for n in ("site", "stage", "gtid", "table", "key") if (v := getattr(self, n))
        )
        text = f"{self.message} [{where}]" if where else self.message
        return f"{text}. {self.hint}" if self.hint else text


class ConfigError(DrcError):
    """The configuration is wrong: fix it and start again."""

    exit_code = 2


class PreflightError(DrcError):
    """A server's setting, grant or schema does not allow replication."""

    exit_code = 1


class ReseedError(PreflightError):
    """What is missing exists nowhere any more: the data must be copied anew."""


class TransientError(DrcError):
    """Something is away for a while: retry, bounded and with backoff."""


class DataError(DrcError):
    """This transaction or table cannot be applied; a person must look."""

    exit_code = 3


class InvariantError(DrcError):
    """A rule of ours is broken: stop, this is a bug."""

    exit_code = 3


# Of the server, for an account without the right: to a schema, to a table, to an operation.
NO_RIGHT = frozenset({1044, 1142, 1227})
DUPLICATE_KEY = 1062
ROW_ERRNOS = frozenset({1032, DUPLICATE_KEY})  # a row does not exist, or exists already
LOCK_WAIT_TIMEOUT = 1205
# A lock that was not to be had: waited too long, deadlock, or NOWAIT.
LOCK_ERRNOS = frozenset({LOCK_WAIT_TIMEOUT, 1213, 3572})

# One table maps the server's errno to a class and a remedy. Errnos not listed are DataError
# while applying and TransientError while connecting; sources: MySQL 9.7 error reference.
_ERRNO: dict[int, tuple[type[DrcError], str]] = {
    1040: (TransientError, "raise max_connections or stop other clients"),
    1044: (PreflightError, "grant the account the rights listed by `drc check`"),
    1045: (ConfigError, "check the user and password of this account in the configuration"),
    1053: (TransientError, "the server is shutting down"),
    1142: (PreflightError, "grant the account the rights listed by `drc check`"),
    1153: (DataError, "raise max_allowed_packet on the target above the largest row"),
    1203: (TransientError, "raise max_user_connections"),
    1205: (TransientError, "a local transaction held a row lock; it is retried"),
    1213: (TransientError, "deadlock victim; it is retried"),
    1227: (PreflightError, "grant the account the rights listed by `drc check`"),
    1236: (PreflightError, "the source cannot serve this position; see `drc check`"),
    1290: (TransientError, "the server is read-only; make it writable or fail over"),
    1698: (ConfigError, "check the user and password of this account in the configuration"),
    1792: (TransientError, "the server is read-only; make it writable or fail over"),
    2002: (TransientError, "start the server, or check host, port and firewall"),
    2003: (TransientError, "start the server, or check host, port and firewall"),
    2006: (TransientError, "the connection was lost; it is opened again"),
    2013: (TransientError, "the connection was lost; it is opened again"),
    2026: (ConfigError, "check the TLS settings of this site and the server's certificate"),
    3159: (ConfigError, "the server requires TLS: set tls.mode for this site"),
    6038: (PreflightError, "grant TRANSACTION_GTID_TAG to the applier account"),
}


def from_errno(errno: int, message: str, default: type[DrcError] = DataError) -> DrcError:
    """Class a server error by its errno.

    :param default: the class for an errno that the table does not list.
    """
    kind, hint = _ERRNO.get(errno, (default, ""))
    return kind(f"({errno}) {message}", hint=hint, errno=errno)
