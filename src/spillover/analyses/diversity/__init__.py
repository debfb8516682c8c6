"""How diverse each data set is, over seeded subsamples."""
