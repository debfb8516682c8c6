"""From pairs to a matched data set: filters, held-out questions, length matching, variants, near-duplicates."""
