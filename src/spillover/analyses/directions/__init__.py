"""Activation directions: each cell's, what they separate, and how similar they are."""
