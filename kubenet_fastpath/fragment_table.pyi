from enum import IntEnum
from typing import NamedTuple, final

from typing_extensions import Buffer

class FragmentFate(IntEnum):
    HELD = 0
    WHOLE = 1
    DUPLICATE = 2
    OVERLAP = 3
    BAD_END = 4
    TOO_LONG = 5
    BAD_ECN = 6
    NO_MEMORY = 7
    TOO_FAR = 8
    TIMEOUT = 9

class Datagram(NamedTuple):
    frame: bytes
    sizes: tuple[int, ...]  # bytes of payload
    max_size: int  # bytes of IP packet
    df: bool

class ExpiredQueue(NamedTuple):
    due: int  # ns
    user: int
    port: int
    fragments: int
    frame: bytes | None

@final
class FragmentTable:
    def __init__(
        self, *, timeout_s: float = 30, high_threshold: int = ..., max_distance: int = 64, seed: int = 0
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def memory(self) -> int: ...  # bytes, as the kernel counts
    @property
    def next_due(self) -> int | None: ...  # ns
    @property
    def arrived(self) -> dict[FragmentFate, int]: ...
    @property
    def ended(self) -> dict[FragmentFate, int]: ...
    def add(self, frame: Buffer, now: int, *, port: int = 0, user: int = 0) -> Datagram | FragmentFate: ...
    def expire(self, now: int) -> list[ExpiredQueue]: ...
