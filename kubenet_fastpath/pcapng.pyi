from typing import Any, final

import numpy as np
from numpy.typing import NDArray

@final
class PcapngScanner:
    def __init__(self) -> None: ...
    def scan(
        self,
        data: NDArray[np.uint8],  # (B,)
        start: int = 0,
        most: int = ...,
    ) -> tuple[NDArray[Any], int, str | None]: ...
