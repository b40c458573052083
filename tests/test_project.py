"""The project as it is installed: what a stranger gets who clones and runs make."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import t2v

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {"t2v": "t2v", "cli": "t2v.cli", "checkpoints": "t2v.checkpoints"}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def modules() -> list[Path]:
    return [file for folder in PACKAGES for file in sorted((REPOSITORY / folder).rglob("*.py"))]


def pinned() -> dict[str, str]:
    """Every version in constraints.txt by its package's name."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_version_is_said_once():
    assert metadata.version("t2v") == t2v.__version__


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_the_folders_are_installed_under_their_names(folder, package):
    assert Path(import_module(package).__file__).parent == REPOSITORY / folder


def test_every_folder_with_code_is_a_package():
    folders = {file.parent for file in modules()}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_recipes_are_installed():
    assert (resources.files("t2v") / "recipes" / "tiny.toml").is_file()


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_file_begins_by_saying_what_it_owns(file):
    first = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
    assert first.endswith((".", ":"))


def test_importing_t2v_imports_neither_torch_nor_the_commands():
    program = "import sys, t2v; print(sorted({'torch', 'typer', 'pydantic'} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_everything_that_is_asked_for_is_pinned_within_its_bounds():
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *extras["offline"], *extras["dev"]]]
    pins = pinned()
    assert [str(one) for one in asked if pins[canonicalize_name(one.name)] not in one.specifier] == []


def test_torch_is_not_older_than_its_security_floor():
    torch = next(one for one in PROJECT["project"]["dependencies"] if one.startswith("torch"))
    assert "2.9.1" not in Requirement(torch).specifier


def test_every_dependency_is_imported_somewhere():
    """A name in pyproject.toml that no code uses is a download for nothing."""
    text = "\n".join(file.read_text() for file in modules())
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    # For these pip's names differ from Python's.
    names = {"pillow": "PIL", "rotary-embedding-torch": "rotary_embedding_torch"}
    wanted = {Requirement(one).name for one in PROJECT["project"]["dependencies"]}
    assert {names.get(one, one) for one in wanted} - imported == set()


def test_the_commands_of_make_are_explained():
    text = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", text, re.MULTILINE)
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:.*## \w", text, re.MULTILINE)] == []
