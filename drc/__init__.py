"""drc: active-active MySQL replication by the binlog."""

__version__ = "0.2.0"
