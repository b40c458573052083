"""Which folders become packages; everything else about the project is in pyproject.toml."""

from setuptools import find_packages, setup

# pyproject.toml can either find packages or rename them; t2v finds its own and takes two in under other names.
OUTSIDE = {"t2v.cli": "cli", "t2v.checkpoints": "checkpoints"}

setup(packages=[*find_packages(include=["t2v", "t2v.*"]), *OUTSIDE], package_dir=OUTSIDE)
