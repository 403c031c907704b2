"""Check that the archives hold what they should: `git ls-files | check_dist.py ARCHIVE.tar.gz WHEEL.whl`."""

import sys
import tarfile
import zipfile
from pathlib import PurePath

PACKAGE = "kubenet_fastpath/"


def main(archives: list[str]) -> int:
    """Return 1, and say why, if a file is missing or a generated one slipped in."""
    tracked = {line.strip() for line in sys.stdin}
    wrong = []
    for archive in archives:
        if archive.endswith(".whl"):
            with zipfile.ZipFile(archive) as wheel:
                names = set(wheel.namelist())
            modules = {name.split(".")[0] for name in names if name.endswith(".so")}
            wanted = {name for name in tracked if name.startswith(PACKAGE)}
            sources = {name for name in wanted if name.endswith(".pyx")}
            wanted -= sources
            wrong += [f"{archive}: {name} is not built" for name in sources if name[:-4] not in modules]
        else:
            with tarfile.open(archive) as tar:
                names = {str(PurePath(*PurePath(name).parts[1:])) for name in tar.getnames()}
            wanted = {name for name in tracked if not name.startswith(".")}
        wrong += [f"{archive}: {name} is missing" for name in wanted - names]
        wrong += [
            f"{archive}: {name} is generated" for name in names - tracked if name.endswith((".c", ".o"))
        ]
    print("\n".join(sorted(wrong)) or f"{len(archives)} archives hold every tracked file")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
