"""Errors: one class for each remedy.

The class of an error says how the caller must react: fix the configuration and start again,
change the server, wait and retry, look at the data, or report a bug. The fields say where the
error happened. ``hint`` is the sentence that an operator acts on. A conflict is a value, not an
error.

This file does not know pymysql: edges translate a server's errno with :func:`from_errno`.
"""

from __future__ import annotations


class DrcError(Exception):
    """Base of all errors; the text is ``message [site=… stage=… gtid=… table=… key=…]. hint``."""

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
    """The configuration is wrong: an operator must fix the file and start again."""

    exit_code = 2


class PreflightError(DrcError):
    """A server's setting, grant or schema does not allow replication."""

    exit_code = 1


class ReseedError(PreflightError):
    """Missing transactions no longer exist anywhere: an operator must copy the data again."""


class TransientError(DrcError):
    """A server or link is away for a while: the caller retries, with a bounded backoff."""


class DataError(DrcError):
    """A transaction or table cannot be applied; an operator must look at the data."""

    exit_code = 3


class InvariantError(DrcError):
    """An invariant of drc is broken: the caller stops, because this is a bug."""

    exit_code = 3


# The account has no right to a schema, to a table, or to an operation.
NO_RIGHT = frozenset({1044, 1142, 1227})
DUPLICATE_KEY = 1062
ROW_ERRNOS = frozenset({1032, DUPLICATE_KEY})  # a row does not exist, or exists already
LOCK_WAIT_TIMEOUT = 1205
# A lock was not granted: the wait was too long, a deadlock, or NOWAIT.
LOCK_ERRNOS = frozenset({LOCK_WAIT_TIMEOUT, 1213, 3572})

# The class and the hint of each errno of the server. An errno that is not listed is a DataError
# while applying and a TransientError while connecting. Source: MySQL 9.7 error reference.
_ERRNO: dict[int, tuple[type[DrcError], str]] = {
    1040: (TransientError, "raise max_connections or stop other clients"),
    1044: (PreflightError, "grant the account the rights listed by `drc check`"),
    1045: (ConfigError, "check the user and password of this account in the configuration"),
    1053: (TransientError, "wait, or start the server again: the server is shutting down"),
    1142: (PreflightError, "grant the account the rights listed by `drc check`"),
    1153: (DataError, "raise max_allowed_packet on the target above the largest row"),
    1203: (TransientError, "raise max_user_connections or stop other clients of this account"),
    1205: (TransientError, "wait: a local transaction held a row lock; drc tries again"),
    1213: (TransientError, "wait: the transaction was a deadlock victim; drc tries again"),
    1227: (PreflightError, "grant the account the rights listed by `drc check`"),
    1236: (PreflightError, "run `drc check`: the source cannot send the binlog from this place"),
    1290: (TransientError, "make the server writable, or fail over: the server is read-only"),
    1698: (ConfigError, "check the user and password of this account in the configuration"),
    1792: (TransientError, "make the server writable, or fail over: the server is read-only"),
    2002: (TransientError, "start the server, or check host, port and firewall"),
    2003: (TransientError, "start the server, or check host, port and firewall"),
    2006: (TransientError, "wait: the connection was lost; drc connects again"),
    2013: (TransientError, "wait: the connection was lost; drc connects again"),
    2026: (ConfigError, "check the TLS settings of this site and the server's certificate"),
    3159: (ConfigError, "set tls.mode for this site: the server requires TLS"),
    6038: (PreflightError, "grant TRANSACTION_GTID_TAG to the applier account"),
}


def from_errno(errno: int, message: str, default: type[DrcError] = DataError) -> DrcError:
    """Return the error that the class and hint of ``errno`` call for.

    :param default: the class for an errno that the table does not list.
    """
    kind, hint = _ERRNO.get(errno, (default, ""))
    return kind(f"({errno}) {message}", hint=hint, errno=errno)
