"""The command line: one thin file per command, and one module that prints."""
