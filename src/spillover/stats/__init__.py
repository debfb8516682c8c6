"""Numbers from numbers: intervals, paired differences, ranking, power, agreement. No records, no files."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
