"""Which version of schema ``drc`` a site has, and which one this release needs.

Apart from :mod:`drc.state.migrate`, as each start of a daemon asks: Alembic and SQLAlchemy, which
bring a version about, cost a second of CPU to import.
"""

from __future__ import annotations

from drc import mysql
from drc.errors import DrcError
from drc.names import VERSION
from drc.shipped import shipped


def site_version(connection: mysql.Connection) -> str:
    """Return the version of schema ``drc`` on a site, '' when there is none.

    :raises DrcError: classed by errno.
    """
    try:
        rows = mysql.ask(connection, f"SELECT version_num FROM {VERSION}")
    except DrcError as error:
        if error.errno in (1049, 1146, 1142, 1044):  # no schema, no table, or neither visible
            return ""
        raise
    return str(rows[0][0]) if rows else ""


def site_head() -> str:
    """Return the version that this release of drc needs on a site."""
    # A step is named by the version it leads to, NNNN_what.py: the last name tells.
    steps = shipped("migrations/site/versions").glob("*.py")
    return max(step.name for step in steps).partition("_")[0]
