"""``python -m datafab``: the command line."""

from datafab.cli import main

main()
