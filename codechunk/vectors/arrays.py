"""The arrays that vectors travel in: one vector a row, of unit length."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Halves: TypeAlias = NDArray[np.float16]
"""As the state database stores them."""
