"""The command line: one file for the commands of a group; `main.py` has the table."""
