"""What the README shows is what happens."""

import doctest
import io
from pathlib import Path

import pytest

from kubenet_fastpath import cli
from kubenet_fastpath.address_source import open_addresses
from kubenet_fastpath.lookup import Format, Lookup
from kubenet_fastpath.prefix_list import read_prefixes

README = Path(__file__).parent.parent / "README.md"


def test_the_tour():
    failed, tried = doctest.testfile(str(README), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried > 10


def test_the_tables_of_the_first_command(capsys):
    assert cli.main(["replay", "--sample"]) == 0
    shown = capsys.readouterr().out.partition("connections")[0].rstrip()
    assert shown in README.read_text(), shown


def test_the_lookup(tmp_path):
    shell = README.read_text().partition("## Which prefix")[2]
    listed = shell.partition("printf '")[2].partition("'")[0].replace("\\n", "\n")
    asked = shell.partition("lookup prefixes.txt ")[2].partition("\n")[0].split()
    (tmp_path / "prefixes.txt").write_text(listed)
    lookup = Lookup(read_prefixes(tmp_path / "prefixes.txt"), Format.ALIGNED)
    out = b"".join(lookup.run(open_addresses(asked, io.BytesIO()))).decode()
    assert out.count("\n") == len(asked) == 4
    assert f"```\n{out}```" in README.read_text(), out


@pytest.mark.parametrize("extra", ["cli", "parquet", "test", "bench", "dev"])
def test_the_extras_exist(extra):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(README.with_name("pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]
