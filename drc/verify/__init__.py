"""Prove that two sites hold the same: every row compared, every transaction accounted for."""

from drc.verify.audit import Audit, audit
from drc.verify.compare import TableComparison, compare
from drc.verify.render import render

__all__ = ["Audit", "TableComparison", "audit", "compare", "render"]
