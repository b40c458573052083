"""Figures of the original systems as test cases: those kept in tests/golden, or all of them with --golden FOLDER.

    @pytest.mark.golden("improved_diffusion", "loss_*", "vb_*")
    def test_losses_are_met(golden_case, dtype): ...

runs once for every case of the file whose name matches. What ran is counted, and the end of the run says for each file
how many cases ran and which were left out and why.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

KEPT = Path(__file__).resolve().parent

# Cases that no test runs from these files: file, pattern of names, reason.
LEFT_OUT: list[tuple[str, str, str]] = [
    (
        "improved_diffusion",
        "timestep_embedding_*",
        "our network says a timestep as lucidrains' does: sines before cosines, frequencies down to 1/10000 itself",
    ),
]


class GoldenFile:
    """One file of figures: FILE.npz with inputs `shared/NAME` and outputs `CASE/FIELD`, and FILE.cases.json."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        about = json.loads((folder / f"{name}.cases.json").read_text(encoding="utf-8"))
        self.cases: dict[str, Any] = about["cases"]
        self.num_in_all: int = about.get("cases_in_all", len(self.cases))  # said by keep.py of a part
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            self.arrays = dict(arrays)

    def matching(self, patterns: tuple[str, ...]) -> list[str]:
        return [case for case in self.cases if any(fnmatch(case, pattern) for pattern in patterns)]


class GoldenCase:
    """One call of an original: its arguments, inputs and outputs."""

    def __init__(self, file: GoldenFile, name: str) -> None:
        self.file, self.name = file, name
        self.about = file.cases[name]
        self.args: dict[str, Any] = self.about["args"]

    def __contains__(self, field: str) -> bool:
        return f"{self.name}/{field}" in self.file.arrays

    def __getitem__(self, field: str) -> Tensor:
        return torch.from_numpy(self.file.arrays[f"{self.name}/{field}"])

    def shared(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """An input that cases share, in `dtype` or as it is."""
        values = torch.from_numpy(self.file.arrays[f"shared/{name}"])
        return values if dtype is None else values.to(dtype)

    def weights(self, name: str) -> dict[str, Tensor]:
        """The original network's own state dict, a file beside the figures."""
        return load_file(self.file.folder / f"{name}.safetensors")

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose field starts with `prefix`, by the rest of their name."""
        start = f"{self.name}/{prefix}"
        found = {key: array for key, array in self.file.arrays.items() if key.startswith(start)}
        return {key.removeprefix(start): torch.from_numpy(array) for key, array in found.items()}

    def check(self, field: str, value: Tensor, *, atol: float | None = None, atol_f64: float = 1e-9) -> None:
        """Hold a float32 value against the original, and a float64 value against its float64 twin.

        The tolerances are those stated with the figures. Where float32 rounding is more than 1% of the values, the twin
        alone is the test; and where only the twin is kept, float32 is held against that, within the same tolerance.
        A twin that holds frame 0 only is met by frame 0 of the value.
        """
        about, has_twin = self.about["fields"][field], f"{field}_f64" in self
        limit = about.get("suggested_atol_f32", 0.0) if atol is None else atol
        if value.dtype == torch.float64 and has_twin:
            self._meet_twin(field, value, rtol=atol_f64, atol=atol_f64 * max(1.0, about["max_abs"]))
        elif value.dtype == torch.float32 and has_twin and limit > 0.01 * about["max_abs"]:
            assert value.isfinite().all()
        elif field not in self:
            self._meet_twin(field, value.double(), rtol=0, atol=limit)
        else:
            torch.testing.assert_close(value, self[field], rtol=0, atol=limit, check_dtype=False)

    def _meet_twin(self, field: str, value: Tensor, *, rtol: float, atol: float) -> None:
        if self.about["fields"][field].get("f64_twin") == "frame 0 only":
            value = value[..., 0, :, :]
        torch.testing.assert_close(value, self[f"{field}_f64"], rtol=rtol, atol=atol)


@cache
def golden_file(folder: Path, name: str) -> GoldenFile:
    return GoldenFile(folder, name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=KEPT,
        metavar="FOLDER",
        help="all golden figures, of which tests/golden holds a part",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(file, *patterns): runs for every case of the figures that matches")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    file, *patterns = marker.args
    names = golden_file(metafunc.config.getoption("--golden"), file).matching(tuple(patterns))
    metafunc.parametrize("golden_case", [(file, name) for name in names], ids=names, indirect=True)


@pytest.fixture
def golden_case(request: pytest.FixtureRequest, record_property: Any) -> GoldenCase:
    file, name = request.param
    record_property("golden", f"{file}/{name}")
    return GoldenCase(golden_file(request.config.getoption("--golden"), file), name)


@pytest.fixture(scope="session")
def golden_folder(pytestconfig: pytest.Config) -> Path:
    """Where the figures lie."""
    return pytestconfig.getoption("--golden")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    outcomes = {name: cases_of(terminalreporter.getreports(name)) for name in ("passed", "failed")}
    if any(outcomes.values()):
        terminalreporter.section("golden figures")
    for line in counted(config.getoption("--golden"), **outcomes):
        terminalreporter.write_line(line)


def cases_of(reports: list[pytest.TestReport]) -> dict[str, set[str]]:
    """The cases that these tests are about, by their file."""
    cases = defaultdict(set)
    for report in reports:
        for key, value in report.user_properties:
            if key == "golden":
                file, _, case = value.partition("/")
                cases[file].add(case)
    return cases


def counted(folder: Path, passed: dict[str, set[str]], failed: dict[str, set[str]]) -> Iterator[str]:
    """For each file that was tested, how many of its cases ran, and what was left out and why."""
    for name in sorted(passed.keys() | failed.keys()):
        file, wrong = golden_file(folder, name), failed.get(name, set())
        ran = passed.get(name, set()) | wrong
        out = {case: why for of, pattern, why in LEFT_OUT if of == name for case in file.matching((pattern,))}
        out = {case: why for case, why in out.items() if case not in ran}
        rest = len(file.cases) - len(ran | out.keys())
        yield (
            f"{name}: {len(ran)} of {len(file.cases)} {'kept ' if folder.resolve() == KEPT else ''}cases ran"
            + (f" (of {file.num_in_all} in all)" if file.num_in_all > len(file.cases) else "")
            + (f", {len(wrong)} failed" if wrong else "")
            + (f", {rest} not asked for" if rest else "")
        )
        for why in dict.fromkeys(out.values()):
            left = [case for case, reason in out.items() if reason == why]
            yield f"  left out: {', '.join(left)}: {why}"
