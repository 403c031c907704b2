"""What the README shows is what happens."""

import doctest
from pathlib import Path

import pytest

from kubenet_fastpath import cli

README = Path(__file__).parent.parent / "README.md"


def test_the_tour():
    failed, tried = doctest.testfile(str(README), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried > 10


def test_the_tables_of_the_first_command(capsys):
    assert cli.main(["replay", "--sample"]) == 0
    shown = capsys.readouterr().out.partition("connections")[0].rstrip()
    assert shown in README.read_text(), shown


@pytest.mark.parametrize("extra", ["cli", "test", "bench", "dev"])
def test_the_extras_exist(extra):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(README.with_name("pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]
