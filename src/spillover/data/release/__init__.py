"""Data sets for release: files, card, Croissant metadata, archive, encryption."""
