"""Numbers from numbers: intervals, paired differences, ranking, power, agreement. No records, no files."""
