"""Which version of schema ``drc`` a site has, and which one this release needs.

Apart from :mod:`drc.state.migrate`, as each start of a daemon asks: Alembic and SQLAlchemy, which
bring a version about, cost a second of CPU to import.
"""

from __future__ import annotations

from pathlib import Path

from drc import mysql
from drc.errors import DrcError


def site_version(connection: mysql.Connection) -> str:
    """Return the version of schema ``drc`` on a site, '' when there is none.

    :raises DrcError: classed by errno.
    """
    try:
        rows = mysql.ask(connection, "SELECT version_num FROM drc.schema_version")
    except DrcError as error:
        if error.errno in (1049, 1146, 1142, 1044):  # no schema, no table, or neither visible
            return ""
        raise
    return str(rows[0][0]) if rows else ""


def site_head() -> str:
    """Return the version that this release of drc needs on a site."""
    # A step is named by the version it leads to, NNNN_what.py: the last name tells.
    return max(p.name for p in (folder() / "site" / "versions").glob("*.py")).partition("_")[0]


def folder() -> Path:
    """Return where the migrations are: in the wheel ``drc/migrations``, else at the top."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
