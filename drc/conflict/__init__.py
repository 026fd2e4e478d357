"""Concurrent writes to one row: which there are, which one stays, and what people see of it."""
