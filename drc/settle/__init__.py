"""Settle transactions row by row, under locks, where two sites wrote one row."""
