"""The command line: one file a command; `main.py` has the table."""
