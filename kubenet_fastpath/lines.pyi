from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_LENGTH: Final[int]

def fields(
    data: NDArray[np.uint8],  # (B,)
    column: int = -1,
    delimiter: int = 44,
) -> tuple[
    NDArray[np.int64],  # (N,), each of them
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
]: ...
def addresses(
    data: NDArray[np.uint8],  # (B,)
    start: NDArray[np.int64],  # (N,)
    end: NDArray[np.int64],  # (N,)
) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint8]]: ...  # (N,), (N, 2), (N,)
def is_header(text: bytes) -> bool: ...
def join(
    data: NDArray[np.uint8],  # (B,)
    start: NDArray[np.int64],  # (N,)
    end: NDArray[np.int64],  # (N,)
    row: NDArray[np.uint32],  # (N,)
    tails: NDArray[np.uint8],  # (T,)
    offset: NDArray[np.int64],  # (R + 1,)
    head: bytes = b"",
    width: int = 0,
) -> bytes: ...
