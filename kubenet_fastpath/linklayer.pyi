from typing import Any, final

import numpy as np
from numpy.typing import NDArray

@final
class LinkLayer:
    @property
    def completed(self) -> int: ...
    def __new__(
        cls,
        *,
        network: int,
        mask: int,
        node: int,
        bridge_mac: int,
        eth0_mac: int,
        gateway_mac: int,
        ports: NDArray[np.uint16],  # (2**k,)
        heard: NDArray[np.uint64],  # (M,)
        owner: NDArray[np.uint32],  # (M,)
        router: NDArray[np.uint8],  # (M,)
    ) -> LinkLayer: ...
    def dress(
        self,
        data: NDArray[np.uint8],  # (B,)
        offset: NDArray[np.int64],  # (N,)
        length: NDArray[np.uint32],  # (N,)
        port: NDArray[np.uint16],  # (N,)
        headers: NDArray[Any],  # (N,)
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]: ...  # (N,) each
