"""`python -m discretion`: the same as the command `discretion`."""

from discretion.cli import main

main()
