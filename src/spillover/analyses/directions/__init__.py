"""What moved inside: directions of every cell, what they separate, and how alike they are; probe.py is the order."""
