import numpy as np
from numpy.typing import NDArray

def gather(
    data: NDArray[np.uint8],  # (B,)
    offset: NDArray[np.int64],  # (N,)
    length: NDArray[np.uint32],  # (N,)
    out: NDArray[np.uint8],  # (sum(length),)
) -> None: ...
def same_rows(
    data: NDArray[np.uint8],  # (B,)
    offset: NDArray[np.int64],  # (N,)
    other: NDArray[np.uint8],  # (C,)
    other_offset: NDArray[np.int64],  # (N,)
    length: NDArray[np.uint32],  # (N,)
) -> bool: ...
