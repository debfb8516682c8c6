"""One thread for numerics in tests: tiny tensors gain nothing from more, and lose much beside a busy process."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
