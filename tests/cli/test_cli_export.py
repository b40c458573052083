"""An exported run is one file that draws what the run drew."""

from collections.abc import Callable
from pathlib import Path

import torch

from t2v.checkpoint import load_checkpoint


def test_an_export_is_half_as_large_and_keeps_weights_to_bf16_and_all_that_is_said(
    t2v: Callable[..., tuple[int, str, str]], make_checkpoint: Callable[..., Path]
) -> None:
    source = make_checkpoint()
    status, out, _ = t2v("export", source, "given/away.safetensors")
    assert status == 0
    assert out.startswith("given/away.safetensors  ")
    before, after = load_checkpoint(source), load_checkpoint(Path("given/away.safetensors"))
    assert after.header == before.header
    assert after.path.stat().st_size < 0.7 * source.stat().st_size
    for name, tensor in before.weights.items():
        assert torch.equal(after.weights[name], tensor.to(torch.bfloat16)), name
    after.network()


def test_an_export_can_keep_every_bit(
    t2v: Callable[..., tuple[int, str, str]], make_checkpoint: Callable[..., Path]
) -> None:
    source = make_checkpoint()
    assert t2v("export", source, "whole.safetensors", "--no-half")[0] == 0
    before, after = load_checkpoint(source), load_checkpoint(Path("whole.safetensors"))
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())


def test_an_export_names_the_prompts_it_is_told(
    t2v: Callable[..., tuple[int, str, str]], make_checkpoint: Callable[..., Path]
) -> None:
    source = make_checkpoint(example_prompts=("all", "of these"))
    assert t2v("export", source, "some.safetensors", "--prompt", "a cat", "--prompt", "two cats")[0] == 0
    before, after = load_checkpoint(source).header, load_checkpoint(Path("some.safetensors")).header
    assert after.example_prompts == ("a cat", "two cats")
    assert after.model_copy(update={"example_prompts": before.example_prompts}) == before


def test_an_export_needs_a_run(refused: Callable[..., str]) -> None:
    assert "there is no checkpoint" in refused("export", "nowhere", "out.safetensors")
