"""The command line: one command a module, imported when it is used."""

from sagabus.cli.group import main

__all__ = ["main"]
