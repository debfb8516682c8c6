"""Models that come as Python packages: a pinned catalogue, downloading, conversion, checks, the sentence encoder."""
