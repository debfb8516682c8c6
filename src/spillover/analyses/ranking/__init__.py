"""Rates by cell with intervals, the order of domains as far as it is separable, pooled comparisons."""
