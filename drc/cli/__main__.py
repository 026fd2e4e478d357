"""``python -m drc.cli``: the same as the installed ``drc``."""

from drc.cli import main

main()
