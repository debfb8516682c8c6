"""One thread for numerics in tests: tiny tensors gain nothing from more, and lose much beside a busy process.

No deadline for Hypothesis: how long a case takes beside a busy process says nothing of the code.
"""

import os

from hypothesis import settings

settings.register_profile("spillover", deadline=None)
settings.load_profile("spillover")

os.environ.setdefault("OMP_NUM_THREADS", "1")
