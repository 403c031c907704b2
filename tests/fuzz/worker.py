"""The process that libFuzzer runs in: `run.py` starts it with the runtime and AddressSanitizer ahead of all else.

    worker.py TARGET FOLDER [libFuzzer's arguments]

The target's examples are put into the folder first.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
import zlib
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

LINE_COUNTERS = 1 << 14  # as in counters.c


def count_lines(runtime: ctypes.CDLL, folder: str) -> None:
    """Let the lines of Python under a folder count as libFuzzer's edges do: each with the line before it."""
    counters = (ctypes.c_uint8 * LINE_COUNTERS).in_dll(runtime, "kf_lines")
    seeds: dict[CodeType, int] = {}
    before = 0

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal before
        if event == "line":
            here = seeds[frame.f_code] + 7919 * frame.f_lineno
            at = (before ^ here) % LINE_COUNTERS
            counters[at] = min(counters[at] + 1, 255)
            before = here >> 1
        return line

    def call(frame: FrameType, _: str, __: Any) -> Any:
        nonlocal before
        code = frame.f_code
        if not code.co_filename.startswith(folder):
            return None
        if code not in seeds:
            seeds[code] = zlib.crc32(f"{code.co_filename}:{code.co_firstlineno}".encode())
        before = seeds[code]
        return line

    sys.settrace(call)


def main() -> None:
    """Run libFuzzer, which ends the process."""
    runtime = ctypes.CDLL(os.environ["KF_FUZZ_RUNTIME"])
    import kubenet_fastpath
    from fuzz.targets import execute, load

    target = load(sys.argv[1])
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)

    @kind
    def one(data: Any, size: int) -> int:
        try:
            execute(target, ctypes.string_at(data, size))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os.abort()  # libFuzzer keeps the input
        return 0

    if target.LINES:
        count_lines(runtime, str(Path(kubenet_fastpath.__file__).parent))
    for number, example in enumerate(target.EXAMPLES):
        Path(sys.argv[2], f"example-{number}").write_bytes(example)
    again = f"{sys.executable} {' '.join(sys.argv[:3])}"  # by which merging starts processes of its own
    length = f"-max_len={max(target.LONGEST, *map(len, target.EXAMPLES))}"
    arguments = [os.fsencode(argument) for argument in (again, length, *sys.argv[3:])]
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    runtime.LLVMFuzzerRunDriver(
        ctypes.byref(ctypes.c_int(len(arguments))), ctypes.byref(ctypes.pointer(argv)), one
    )


if __name__ == "__main__":
    main()
