"""``python -m drc.cli``: the same command line as the installed ``drc``."""

from drc.cli import main

main()
