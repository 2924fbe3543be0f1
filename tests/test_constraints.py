"""The promised versions are the tested versions."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras):
    """The direct requirements of the package and these extras, by name.

    An extra of attnstore itself stands for its contents.
    """
    found = {}
    for line in [*PROJECT["dependencies"], *(n for e in extras for n in PROJECT["optional-dependencies"][e])]:
        requirement = Requirement(line)
        if requirement.name == "attnstore":
            found |= requirements(*requirement.extras)
        else:
            found[requirement.name] = requirement
    return found


def pins(name):
    """The versions that a constraints file pins, by package."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {name: Version(version) for name, version in (line.split("==") for line in lines if line)}


def lower_bound(requirement):
    (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
    return Version(bound)


def test_the_lowest_tested_versions_are_the_lowest_allowed_ones():
    """`make test-lowest` uses exactly the lower bound of every range, and no package more or less."""
    assert pins("constraints-lowest.txt") == {n: lower_bound(r) for n, r in requirements("test").items()}


def test_every_package_that_a_developer_installs_is_pinned_within_its_range():
    """constraints.txt names an allowed version for every direct dependency."""
    pinned = pins("constraints.txt")
    needed = requirements(*PROJECT["optional-dependencies"])
    assert needed.keys() <= pinned.keys()
    assert [n for n, r in needed.items() if not r.specifier.contains(pinned[n])] == []
