"""The version of schema ``drc``: the version that a site has, and the version that drc needs.

This module is separate from :mod:`drc.state.migrate`, as each start of a daemon asks for versions:
Alembic and SQLAlchemy, which update a schema, cost a second of CPU to import.
"""

from __future__ import annotations

from drc import mysql
from drc.errors import DrcError
from drc.names import VERSION
from drc.shipped import shipped


def site_version(connection: mysql.Connection) -> str:
    """Return the version of schema ``drc`` on a site, for example ``0006``; '' without schema.

    :raises DrcError: classed by errno.
    """
    try:
        rows = mysql.ask(connection, f"SELECT version_num FROM {VERSION}")
    except DrcError as error:
        if error.errno in (1049, 1146, 1142, 1044):  # schema or table missing or not visible
            return ""
        raise
    return str(rows[0][0]) if rows else ""


def site_head() -> str:
    """Return the version that this release of drc needs on a site."""
    # The name of a step begins with its version: `0006_canary` leads to version 0006.
    steps = shipped("migrations/site/versions").glob("*.py")
    return max(step.name for step in steps).partition("_")[0]
