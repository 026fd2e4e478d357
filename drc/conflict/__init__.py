"""Concurrent writes: the index that finds rivals, and the rules that choose an outcome."""
