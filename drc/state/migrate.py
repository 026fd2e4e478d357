"""Migrations of schema ``drc`` on a site and of the checkpoint store. Edge.

Every run is safe to repeat, and safe beside another run. The steps are Alembic's, in the top-level
folder ``migrations``, which the wheel carries as ``drc/migrations``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from drc import mysql
from drc.config import Config
from drc.errors import NO_RIGHT, ConfigError, DrcError, TransientError
from drc.schema.servers import ask_servers, remember, remembered
from drc.shipped import shipped

_ATTEMPTS = 10  # of several processes that create a store at once, most must try again
_ATTEMPT_PAUSE_S = 0.1
# The lock of a run. Two runs at once would each write a version: two heads, which no later run can
# repair. The lock ends with the transaction, or with the connection.
_ALONE = {
    "sqlite": "BEGIN IMMEDIATE",
    "mysql": "SELECT GET_LOCK('drc_migrate', 30)",
    "postgresql": "SELECT pg_advisory_xact_lock(420642)",
}
_VERSION_TABLE = {"site": ("schema_version", "drc"), "store": ("drc_schema_version", None)}


@dataclass(frozen=True, slots=True)
class Migration:
    """The result of a run: versions before ('' without tables) and after, for example ``0006``."""

    place: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Return True if the run changed the version."""
        return self.before != self.after


def migrate_site(config: Config, name: str) -> Migration:
    """Create or update schema ``drc`` as the site's operator.

    :raises ConfigError: no operator account is configured.
    :raises DrcError: the site cannot be reached, or the operator account lacks a right.
    """
    engine = site_engine(config, name)
    try:
        with engine.connect() as connection:
            return _upgrade("site", connection, name)
    except sa.exc.DBAPIError as error:
        raise _explain(error, name) from error
    finally:
        engine.dispose()


def remember_servers(config: Config, sites: Collection[str]) -> None:
    """Write the server UUID of each reachable site at each of ``sites``.

    A daemon adds the missing servers when the other sites can be reached.

    :raises DrcError: one of ``sites`` went away after the migration.
    """
    reached = ask_servers(config, config.sites)
    for name in sites:
        with contextlib.closing(mysql.connect(config, name, "operator")) as conn:
            remember(conn, reached, remembered(conn))


def site_engine(config: Config, name: str) -> sa.Engine:
    """Return an engine over :func:`drc.mysql.connect`; each use opens a connection."""
    return sa.create_engine(
        "mysql+pymysql://",
        creator=lambda: mysql.connect(config, name, "operator", autocommit=False),
        poolclass=sa.pool.NullPool,
    )


def migrate_store(engine: sa.Engine) -> Migration:
    """Create or update the checkpoint store's tables.

    :raises TransientError: the store cannot be reached or is busy for too long.
    :raises ConfigError: a newer release has updated the store.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with engine.connect() as connection:
                return _upgrade("store", connection, "store")
        except CommandError as error:  # the version is not one of this release's steps
            raise ConfigError(
                f"checkpoint store {engine.url.render_as_string()}: {error}",
                hint="run the release of drc that updated the store, or set another state_url",
            ) from error
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:
            if attempt + 1 == _ATTEMPTS:
                raise TransientError(
                    f"checkpoint store {engine.url.render_as_string()}: {error.orig}",
                    stage="state",
                    hint="check state_url; for SQLite the folder must exist and be writable",
                ) from error
            time.sleep(_ATTEMPT_PAUSE_S)
    raise AssertionError("unreachable")


def _upgrade(series: str, connection: sa.Connection, place: str) -> Migration:
    config = _config(series)
    config.attributes["connection"] = connection
    before = _version(series, connection)
    if alone := _ALONE.get(connection.dialect.name):
        connection.exec_driver_sql(alone)
    command.upgrade(config, "head")
    connection.commit()
    return Migration(place, before, _version(series, connection))


def _version(series: str, connection: sa.Connection) -> str:
    table, schema = _VERSION_TABLE[series]
    context = MigrationContext.configure(
        connection, opts={"version_table": table, "version_table_schema": schema}
    )
    version = context.get_current_revision() or ""
    connection.commit()
    return version


def _config(series: str) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("path_separator", "os")
    config.set_main_option(
        "script_location", str(shipped(f"migrations/{series}")).replace("%", "%%")
    )
    return config


def _explain(error: sa.exc.DBAPIError, name: str) -> DrcError:
    out = mysql.translate(error.orig or error, site=name, stage="migrate")
    if out.errno in NO_RIGHT:
        out.hint = "grant the operator account the rights that `drc docs install` lists"
    return out
