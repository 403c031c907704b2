"""The choice of kernel variants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kubenet_fastpath
from kubenet_fastpath import isa


def default_with(value: str) -> subprocess.CompletedProcess[str]:
    root = Path(kubenet_fastpath.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", "from kubenet_fastpath import isa; print(isa.default())"],
        cwd=root,  # which python -c looks into first
        env={**os.environ, "KUBENET_FASTPATH_ISA": value},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_best_one_is_the_default_unless_the_environment_says_otherwise() -> None:
    assert default_with("").stdout.split() == [isa.available()[-1]]
    assert default_with("scalar").stdout.split() == ["scalar"]


def test_the_environment_cannot_ask_for_more_than_the_cpu_has() -> None:
    assert default_with("avx512").stdout.strip() in isa.available()


def test_an_unknown_name_is_refused() -> None:
    process = default_with("mmx")
    assert process.returncode
    assert "KUBENET_FASTPATH_ISA must be one of scalar, avx2, avx512: 'mmx'" in process.stderr


@pytest.mark.parametrize("name", isa.available())
def test_names_grow(name: str) -> None:
    assert name in ("scalar", "avx2", "avx512")
