"""Fakes that ship with the package and speak the real formats."""
