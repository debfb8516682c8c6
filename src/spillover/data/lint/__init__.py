"""The linter of data sets: one file a family of checks, each a function from a data set to its findings."""
