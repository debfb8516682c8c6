"""A study and a run of one: planning, running, results, report, and what acts on a finished run."""
