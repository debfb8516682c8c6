"""Membership inference: training rows against matched non-members, metric by metric."""
