"""The gate before a fine-tune: three rungs from seconds to minutes, each of which may decide."""
