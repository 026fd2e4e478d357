"""Settling: applies transactions row by row, under locks, where two sites wrote the same row."""
