"""One thread for numerics in tests: tiny tensors gain nothing from more, and lose much where another process is busy."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
