# The C interface is in table_file.pxd.
from typing import final

@final
class AlignedBytes:
    def __init__(self, size: int) -> None: ...
