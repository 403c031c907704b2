import numpy as np
from numpy.typing import NDArray

def first_outside(
    size: int,
    offset: NDArray[np.int64],  # (N,)
    length: NDArray[np.uint32],  # (N,)
) -> int | None: ...
def first_below(
    wire_length: NDArray[np.uint32],  # (N,)
    length: NDArray[np.uint32],  # (N,)
) -> int | None: ...
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
