"""The versions that are promised are the versions that are tried."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras):
    """What the package and these extras need directly, by name; an extra of our own stands for what it lists."""
    found = {}
    for line in [*PROJECT["dependencies"], *(n for e in extras for n in PROJECT["optional-dependencies"][e])]:
        requirement = Requirement(line)
        if requirement.name == "attnstore":
            found |= requirements(*requirement.extras)
        else:
            found[requirement.name] = requirement
    return found


def pins(name):
    """The versions that a file of constraints pins, by package."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {name: Version(version) for name, version in (line.split("==") for line in lines if line)}


def lower_bound(requirement):
    (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
    return Version(bound)


def test_the_lowest_versions_that_are_tried_are_those_that_are_allowed():
    """`make test-lowest` takes exactly the lower bound of every range, and no package more or less."""
    assert pins("constraints-lowest.txt") == {n: lower_bound(r) for n, r in requirements("test").items()}


def test_every_package_that_a_developer_installs_is_pinned_within_its_range():
    """constraints.txt names a version for every direct dependency, one that the ranges allow."""
    pinned = pins("constraints.txt")
    needed = requirements(*PROJECT["optional-dependencies"])
    assert needed.keys() <= pinned.keys()
    assert [n for n, r in needed.items() if not r.specifier.contains(pinned[n])] == []
