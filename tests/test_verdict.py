"""The numbers that kernels write are those that Python reads."""

import re
from pathlib import Path

import kubenet_fastpath as kf

PXD = Path(kf.__file__).parent / "verdict.pxd"


def numbers(prefix: str) -> dict[str, int]:
    found = re.findall(rf"^    {prefix}_(\w+) = (\d+)$", PXD.read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_the_kernels_use_the_same_numbers() -> None:
    assert numbers("V") == {v.name: v.value for v in kf.Verdict}
    assert numbers("R") == {r.name: r.value for r in kf.Reason}


def test_every_number_fits_its_counter() -> None:
    text = PXD.read_text()
    assert f"N_VERDICTS = {len(kf.Verdict)}\n" in text
    assert max(kf.Reason) < int(re.search(r"N_REASONS = (\d+)", text)[1])
