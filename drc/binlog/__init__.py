"""Bytes of a binlog become transactions. Pure."""
