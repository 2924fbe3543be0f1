"""Which folders the wheel holds. All else of the build is in pyproject.toml."""

from setuptools import find_packages, setup

# The questions are a top-level folder of the project and a package inside the installed one: nothing finds that.
setup(packages=[*find_packages(include=["attnstore", "attnstore.*"]), "attnstore.queries"])
