"""Proof that sites hold the same data: compares every row, accounts for every transaction."""

from drc.verify.audit import Audit, audit
from drc.verify.compare import TableComparison, compare
from drc.verify.render import render

__all__ = ["Audit", "TableComparison", "audit", "compare", "render"]
