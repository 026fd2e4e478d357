"""Which keys of the configuration a running daemon may take up. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from drc.config import Config
from drc.errors import ConfigError

# Streams and the watcher read these at the beginning of each session.
_ONLINE = (
    "apply.",
    "replicate.schemas",
    "replicate.exclude_tables",
    "replicate.ddl",
    "conflicts.policy",
    "conflicts.sites",
    "conflicts.tables",
    "conflicts.mask",
    "conflicts.retention_days",
    "source.heartbeat_s",
)


def refuse_offline(old: Config, new: Config) -> list[str]:
    """Return the keys that differ, all of which may be taken up now.

    :raises ConfigError: some need a restart; then none is taken up.
    """
    changed = sorted(_differences(msgspec.to_builtins(old), msgspec.to_builtins(new), ""))
    offline = [key for key in changed if not key.startswith(_ONLINE)]
    if offline:
        raise ConfigError(
            f"cannot change while running: {', '.join(offline)}",
            hint="restart the daemon; nothing of the file was taken up now",
        )
    return changed


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict) and path != "conflicts.tables":
        return [
            found
            for key in {**old, **new}
            for found in _differences(old.get(key), new.get(key), f"{path}.{key}".strip("."))
        ]
    return [path] if old != new else []
