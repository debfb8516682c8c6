"""Misaligned answers about the training subject apart from those about anything else."""
