from collections.abc import Iterable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

@final
class TextColumn:
    @property
    def size(self) -> int: ...
    def __init__(self, texts: object) -> None: ...

@final
class ArrowBox:
    def __init__(self) -> None: ...

def parse_addresses(
    texts: NDArray[Any] | Iterable[str | bytes | None],
    family: int = 4,
    *,
    isa: str | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]: ...  # (N,) uint32 or (N, 16) uint8; (N,)
def address_texts(addresses: NDArray[Any]) -> NDArray[np.bytes_]: ...  # (N,) S15 or S39
