"""Reload: the keys of the configuration that may change while a daemon runs. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from drc.config import Config
from drc.errors import ConfigError

# Streams and the watcher read these keys at the beginning of each session.
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
    """Return the keys that differ, all of which may change while the daemon runs.

    :raises ConfigError: a key that differs needs a restart; then no key may take effect.
    """
    changed = sorted(_differences(msgspec.to_builtins(old), msgspec.to_builtins(new), ""))
    offline = [key for key in changed if not key.startswith(_ONLINE)]
    if offline:
        raise ConfigError(
            f"cannot change while the daemon runs: {', '.join(offline)}",
            hint="restart the daemon; no change of the file has taken effect now",
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
