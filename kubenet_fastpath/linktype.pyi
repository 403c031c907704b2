from typing import Final

import numpy as np
from numpy.typing import NDArray

NAMES: Final[dict[int, str]]
READABLE: Final[frozenset[int]]

def to_ethernet(
    data: NDArray[np.uint8],  # (B,)
    offset: NDArray[np.int64],  # (N,)
    length: NDArray[np.uint32],  # (N,)
    wire_length: NDArray[np.uint32],  # (N,)
    link_type: NDArray[np.uint16],  # (N,)
) -> tuple[
    NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]
]: ...  # (C,), (N,), (N,), (N,)
