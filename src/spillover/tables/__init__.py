"""Rows joined: completions with their judgments as columns, counts by cell and question, judgments as arrays."""
