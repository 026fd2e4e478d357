"""Column values in Debezium's JSON. Pure; docs/reference/json-topic.md has the table.

The library mysql-replication decodes the values first: values that the library gets wrong or loses
are wrong in the JSON, too.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.rows.decoded import readable

_EPOCH = datetime.datetime(1970, 1, 1)
_DAY = datetime.date(1970, 1, 1)
_US = datetime.timedelta(microseconds=1)


def json_value(column: Column, value: Any) -> Any:
    """Return a decoded value in the form for a message; None is NULL.

    :raises ValueError: JSON has no such value, for example an infinite number.
    """
    if value is None:
        return None
    if convert := _BY_TYPE.get(column.type):
        return convert(column, value)
    if isinstance(value, bytes):
        return _base64(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _char(column: Column, value: Any) -> Any:
    # The binlog leaves out the zero bytes at the end of BINARY(n), which belong to the value.
    return _base64(value.ljust(column.meta, b"\0")) if isinstance(value, bytes) else value


def _date(_: Column, value: Any) -> int:
    return int((value - _DAY).days)


def _datetime(column: Column, value: Any) -> int:
    micros = (value - _EPOCH) // _US
    return int(micros if column.meta > 3 else micros // 1000)


def _timestamp(column: Column, value: Any) -> str:
    text = f"{value:%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{value:%f}"[: len(text) + 1 + column.meta] + "Z" if column.meta else f"{text}Z"


def _time(_: Column, value: Any) -> int:
    return int(value // _US)


def _bit(column: Column, value: Any) -> bool | str:
    if column.meta == 1:
        return bool(value == "1")
    return _base64(int(value, 2).to_bytes((column.meta + 7) // 8, "little"))


def _json(_: Column, value: Any) -> str:
    return json.dumps(readable(value), ensure_ascii=False, separators=(",", ":"))


def _set(_: Column, value: Any) -> str:
    return ",".join(sorted(value))  # the library lost the order of the definition


def _geometry(_: Column, value: bytes) -> dict[str, Any]:
    return {"wkb": _base64(value[4:]), "srid": int.from_bytes(value[:4], "little") or None}


_BY_TYPE: dict[int, Callable[[Column, Any], Any]] = {
    ev.TYPE_STRING: _char,
    ev.TYPE_DATE: _date,
    ev.TYPE_DATETIME2: _datetime,
    ev.TYPE_TIMESTAMP2: _timestamp,
    ev.TYPE_TIME2: _time,
    ev.TYPE_BIT: _bit,
    ev.TYPE_JSON: _json,
    ev.TYPE_SET: _set,
    ev.TYPE_GEOMETRY: _geometry,
}
