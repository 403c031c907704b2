import numpy as np
from numpy.typing import NDArray

def redirect(
    data: NDArray[np.uint8],  # (B,)
    l3: NDArray[np.int64],  # (N,)
    size: NDArray[np.int64],  # (N,) bytes
    address: NDArray[np.uint32],  # (N,)
    port: NDArray[np.uint16],  # (N,)
) -> None: ...
