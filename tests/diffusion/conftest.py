"""Golden figures as cases that check themselves, and the loops that several tests run."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.samplers import Step

GOLDEN = Path(__file__).parents[1] / "golden"


class GoldenCase:
    """One call of an original system: its arguments, inputs and outputs."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.args = about["args"]
        self.traj_gaps = about.get("traj_f32_minus_f64_max_per_kept_step")
        self._fields, self._arrays = about["fields"], arrays

    def __getitem__(self, field: str) -> Tensor:
        return torch.from_numpy(self._arrays[field])

    def shared(self, name: str, dtype: torch.dtype) -> Tensor:
        return self[f"shared/{name}"].to(dtype)

    def check(self, field: str, value: Tensor, *, atol: float | None = None, atol_f64: float = 1e-9) -> None:
        """Compare a float32 value with the original, a float64 value with its float64 twin."""
        about = self._fields[field]
        if value.dtype == torch.float32:
            torch.testing.assert_close(value, self[field], rtol=0, atol=atol or about["suggested_atol_f32"])
        else:
            value = value[..., 0, :, :] if about.get("f64_twin") == "frame 0 only" else value
            limit = atol_f64 * max(1.0, about["max_abs"])
            torch.testing.assert_close(value, self[f"{field}_f64"], rtol=0, atol=limit)


@cache
def _load(file: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(GOLDEN / f"{file}.npz", allow_pickle=False) as arrays:
        return dict(arrays), json.loads((GOLDEN / f"{file}.cases.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture
def golden() -> Callable[[str, str], GoldenCase]:
    """golden(file, name) is a case of tests/golden."""

    def case(file: str, name: str) -> GoldenCase:
        arrays, cases = _load(file)
        own = {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
        inputs = {key: array for key, array in arrays.items() if key.startswith("shared/")}
        return GoldenCase(cases[name], own | inputs)

    return case


@pytest.fixture
def lucidrains_loop() -> Callable[..., list[Step]]:
    """Run the sampling loop of a lucidrains case, of `sample_lucidrains` or `sample_lucidrains_unet`.

    lucidrains_loop(case, network, noise, text) takes noise of 21 steps, x_T first, and returns the 20 steps; the case's
    `final_unnormalized` is the last x_t moved to [0, 1].
    """

    def run(case: GoldenCase, network: Any, noise: Tensor, text: dict[str, Tensor] | None) -> list[Step]:
        diffusion = GaussianDiffusion(num_timesteps=20, schedule="cosine", prediction="eps")
        steps = diffusion.sample(
            network,
            noise[0],
            noise=lambda step: noise[step + 1],
            text=text,
            num_steps=20,
            sampler="ddpm",
            guidance_scale=case.args["cond_scale"],
            threshold="dynamic" if case.args["dyn"] else "static",
            percentile=case.args.get("percentile", 0.9),
        )
        return list(steps)

    return run
