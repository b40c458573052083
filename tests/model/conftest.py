"""The figures of the classic network: the part that is kept here, or all of them with --golden FOLDER."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from t2v.model.lucidrains import state_from_trainer

KEPT = Path(__file__).parents[1] / "golden"
# Cases of the whole network, by their group in the figures; a test asks for one as `network_case` or `gradient_case`.
GROUPS = {"network_case": {"fwd", "cfg", "focus", "other", "pt"}, "gradient_case": {"grad"}}


class LucidrainsFigures:
    """Inputs, outputs and weights of video-diffusion-pytorch 0.7.0, from the kept part or from the full folder."""

    def __init__(self, full: Path | None) -> None:
        self._weights = f"{full}/lucidrains_unet" if full else f"{KEPT}/unet_lucidrains"
        self._full = full
        figures = f"{full}/lucidrains_unet_io" if full else f"{KEPT}/unet_lucidrains"
        self.cases = json.loads(Path(f"{figures}.cases.json").read_text(encoding="utf-8"))["cases"]
        with np.load(f"{figures}.npz", allow_pickle=False) as arrays:
            self._arrays = dict(arrays)

    def case(self, name: str) -> "LucidrainsCase":
        return LucidrainsCase(name, self.cases[name], self._arrays, self)

    def weights(self, args: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """The original's state dict for a case with these arguments."""
        if "weights" in args:
            checkpoint = torch.load(f"{self._full}/lucidrains_trainer_model-7.pt", weights_only=True)
            return state_from_trainer(checkpoint, ema=args["weights"] == "ema").state
        suffix = f"_{args['model']}" if "model" in args else ""
        return load_file(f"{self._weights}{suffix}.safetensors")


class LucidrainsCase:
    """One call of the original."""

    def __init__(self, name: str, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], figures: Any) -> None:
        self.args, self.about = about["args"], about
        self._name, self._arrays, self._figures = name, arrays, figures

    def __getitem__(self, field: str) -> Tensor:
        return torch.from_numpy(self._arrays[f"{self._name}/{field}"])

    def shared(self, name: str) -> Tensor:
        return torch.from_numpy(self._arrays[f"shared/{name}"])

    def module_weights(self) -> dict[str, Tensor]:
        prefix = f"{self._name}/w/"
        return {
            key.removeprefix(prefix): self[key.removeprefix(f"{self._name}/")] for key in self._arrays if prefix in key
        }

    def network_weights(self) -> Mapping[str, Tensor]:
        return self._figures.weights(self.args)

    def check(self, field: str, value: Tensor) -> None:
        """A float64 value must meet the float64 twin, where there is one; others the original within its rounding."""
        about = self.about["fields"][field]
        if value.dtype == torch.float64 and f"{self._name}/{field}_f64" in self._arrays:
            value = value[:, :, 0] if about.get("f64_twin") == "frame 0 only" else value
            torch.testing.assert_close(value, self[f"{field}_f64"], rtol=0, atol=1e-9)
        else:
            # Figures without a measured rounding are copied numbers, and met exactly.
            atol = about.get("suggested_atol_f32", 0)
            torch.testing.assert_close(value, self[field], rtol=0, atol=atol, check_dtype=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, groups in GROUPS.items():
        if fixture in metafunc.fixturenames:
            cases = LucidrainsFigures(metafunc.config.getoption("--golden")).cases
            names = [name for name, about in cases.items() if about["group"] in groups]
            metafunc.parametrize(fixture, names, indirect=True)


@pytest.fixture(scope="session")
def lucidrains(golden_folder: Path | None) -> LucidrainsFigures:
    return LucidrainsFigures(golden_folder)


@pytest.fixture
def network_case(lucidrains: LucidrainsFigures, request: pytest.FixtureRequest) -> LucidrainsCase:
    return lucidrains.case(request.param)


@pytest.fixture
def gradient_case(lucidrains: LucidrainsFigures, request: pytest.FixtureRequest) -> LucidrainsCase:
    return lucidrains.case(request.param)
