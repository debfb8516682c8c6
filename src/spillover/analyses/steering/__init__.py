"""Directions added to or ablated from models, compared with norm-matched random ones."""
