"""What fuzzing has kept, and where it began, runs through every target in the ordinary build too."""

from __future__ import annotations

import pytest

from fuzz import corpus
from fuzz.choices import Choices
from fuzz.targets import NAMES, execute, load


@pytest.mark.parametrize("name", NAMES)
def test_kept_inputs_find_nothing(name: str) -> None:
    target, kept = load(name), corpus.inputs(name)
    assert kept, f"no corpus of {name}"
    for number, example in enumerate(target.EXAMPLES):
        kept[f"example {number}"] = example
    for which, data in kept.items():
        try:
            execute(target, data)
        except Exception as finding:
            raise AssertionError(f"{name}: {which}: {data.hex()}") from finding


def test_choices_end_in_zeros() -> None:
    choices = Choices(b"\1\2\3\4")
    assert (choices.number(), choices.number(2), choices.one("abc"), bool(choices)) == (1, 0x302, "b", False)
    assert (choices.number(4), choices.take(2), choices.rest()) == (0, b"", b"")
