"""What a study computes beyond rates by cell: one folder each, independent of one another."""
