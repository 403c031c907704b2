from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

class Packets(NamedTuple):
    offset: NDArray[np.int64]
    length: NDArray[np.uint32]
    wire_length: NDArray[np.uint32]
    time: NDArray[np.int64]
    link_type: NDArray[np.uint16]
