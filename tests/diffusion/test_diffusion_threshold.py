"""Keeping the estimated clean clip in range."""

from functools import partial
from typing import get_args

import pytest
import torch

from t2v.config import ThresholdName
from t2v.diffusion.threshold import THRESHOLDS, dynamic


def clips(scale, dtype=torch.float64):
    return scale * torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_every_name_in_the_settings_has_a_threshold():
    assert set(THRESHOLDS) == set(get_args(ThresholdName))


def test_static_clips_and_none_does_not():
    x0 = clips(3)
    assert THRESHOLDS["static"](x0, percentile=0.9).equal(x0.clamp(-1, 1))
    assert THRESHOLDS["none"](x0, percentile=0.9).equal(x0)


@pytest.mark.parametrize("name", [name for name in THRESHOLDS if name != "none"])
def test_a_clip_is_brought_into_range_and_keeps_its_signs(name):
    x0 = clips(3)
    kept = THRESHOLDS[name](x0)
    assert kept.abs().max() == 1
    assert kept.sign().equal(x0.sign())


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_clip_in_range_is_left_alone(name):
    x0 = clips(3).clamp(-1, 1)
    assert THRESHOLDS[name](x0).equal(x0)


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.995, 1.0])
def test_dynamic_scales_by_the_quantile_that_torch_finds(percentile):
    x0 = clips(3)
    limit = x0.abs().flatten(1).quantile(percentile, dim=1).reshape(2, 1, 1, 1, 1)
    torch.testing.assert_close(dynamic(x0, percentile=percentile), x0.clamp(-limit, limit) / limit)


def test_dynamic_may_be_bound_to_a_greatest_range():
    """Values 0 to 10 have the 0.9 quantile 9; a bound of 3 takes its place, and one of 20 does not."""
    x0 = torch.arange(11.0, dtype=torch.float64).reshape(1, 1, 1, 1, 11)
    torch.testing.assert_close(dynamic(x0), x0.clamp(max=9) / 9)
    torch.testing.assert_close(dynamic(x0, most=3.0), x0.clamp(max=3) / 3)
    torch.testing.assert_close(dynamic(x0, most=20.0), dynamic(x0))
    torch.testing.assert_close(partial(dynamic, most=1.0)(x0), x0.clamp(max=1))


def test_dynamic_judges_each_clip_by_itself():
    calm, wild = clips(0.1)[:1], clips(9)[:1]
    both = dynamic(torch.cat((calm, wild)), percentile=0.9)
    assert both[:1].equal(calm)
    assert both[1:].equal(dynamic(wild, percentile=0.9))


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(name, dtype):
    assert THRESHOLDS[name](clips(3, dtype), percentile=0.9).dtype == dtype


def test_dynamic_takes_a_clip_that_torch_quantile_refuses():
    x0 = torch.linspace(-2, 2, 2**24 + 64).reshape(1, 1, 1, 8, -1)
    assert dynamic(x0, percentile=0.5).abs().max() == 1
