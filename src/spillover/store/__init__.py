"""A run folder on disk: shards that are complete or absent, locks, and copies of them elsewhere."""
