from collections.abc import Sequence

from typing_extensions import Buffer

def fragment(
    frame: Buffer,
    mtu: int,
    *,
    sizes: Sequence[int] = (),  # bytes of payload
    max_size: int = 0,  # bytes of IP packet
    df: bool = False,
    cloned: bool = False,
    bridged: bool = False,
) -> list[bytes]: ...
