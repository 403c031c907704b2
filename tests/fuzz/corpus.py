"""The inputs that are kept: one archive for each target, as small as libFuzzer's merge makes it."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def archive(target: str) -> Path:
    return FOLDER / f"{target}.zip"


def inputs(target: str) -> dict[str, bytes]:
    """Every kept input by its name."""
    if not archive(target).exists():
        return {}
    with zipfile.ZipFile(archive(target)) as file:
        return {name: file.read(name) for name in sorted(file.namelist())}


def keep(target: str, contents: Iterable[bytes]) -> int:
    """Replace what is kept of a target; the same inputs make the same file. Returns its size in bytes."""
    FOLDER.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive(target), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, content in sorted((hashlib.sha1(c).hexdigest()[:12], c) for c in contents):
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return archive(target).stat().st_size
