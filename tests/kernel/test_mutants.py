"""What `mutants.py` breaks is there to be broken."""

from __future__ import annotations

from kernel.mutants import MUTANTS, ROOT, folder
from kernel.soak import MODES


def test_every_rule_is_in_its_module_once() -> None:
    for mutant in MUTANTS:
        source = (ROOT / "kubenet_fastpath" / f"{mutant.module}.pyx").read_text()
        assert source.count(mutant.old) == 1, f"{mutant.name}: {mutant.module}.pyx has no such text any more"
        assert mutant.old != mutant.new
        assert mutant.mode in MODES


def test_no_two_have_one_folder() -> None:
    assert len({folder(mutant) for mutant in MUTANTS}) == len(MUTANTS)
