"""Files of the project that an installed drc carries: migrations, examples, rules, pages.

The wheel has each file in the package under the path that the file has in the repository, such as
``conf/pair.toml``. ``force-include`` in pyproject.toml lists the files.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(path: str) -> Path:
    """Return the place of a file or folder of the repository, installed or in a checkout.

    :param path: relative to the repository, such as ``migrations`` or ``conf/alerts.yml``.
    """
    installed = _PACKAGE / path
    return installed if installed.exists() else _PACKAGE.parent / path
