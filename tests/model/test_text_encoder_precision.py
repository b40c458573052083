"""A packed encoder takes a part of the memory, and its features are near the others and as dependable."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from t2v.config import DEFAULT_ENCODER, EncoderPrecisionName
from t2v.errors import TextEncoderError
from t2v.model.text import PACKINGS, TextEncoder
from t2v.runtime import generator
from t2v.service import GenerationService

# Dettmers et al. 2023, appendix E.
NF4 = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
TEXTS = ["fireworks at night", "a red circle moving left", "", "a red circle moving right " * 9]


def load(precision: Any) -> TextEncoder:
    return TextEncoder.load(DEFAULT_ENCODER, precision=precision, allow_download=False)


def layers(encoder: TextEncoder) -> list[nn.Linear]:
    return [module for module in encoder._model.modules() if isinstance(module, nn.Linear)]


@pytest.fixture(scope="module")
def encoders() -> dict[str, TextEncoder]:
    """One of each precision, loaded once."""
    return {precision: load(precision) for precision in ("fp32", *PACKINGS)}


@pytest.fixture
def plain(encoders: dict[str, TextEncoder]) -> TextEncoder:
    return encoders["fp32"]


@pytest.fixture(params=PACKINGS)
def packed(encoders: dict[str, TextEncoder], request: pytest.FixtureRequest) -> TextEncoder:
    return encoders[request.param]


@pytest.fixture(params=PACKINGS)
def pack(request: pytest.FixtureRequest) -> Callable[[nn.Linear], nn.Module]:
    return lambda linear: PACKINGS[request.param](linear).to("cpu")


def random_linear(*, bias: bool = False) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(128, 64, bias=bias).requires_grad_(False)


def unpacked(layer: nn.Module) -> Tensor:
    """The weights that a layer of `random_linear` without bias computes with."""
    return layer(torch.eye(128)).T


def test_the_names_people_choose_from_are_those_that_work() -> None:
    assert {"fp32", *PACKINGS} == set(get_args(EncoderPrecisionName))


@pytest.mark.parametrize("precision, most_part", [("int8", 0.26), ("nf4", 0.13)])
def test_every_linear_layer_is_packed(encoders: dict[str, TextEncoder], precision: str, most_part: float) -> None:
    plain, packed = encoders["fp32"], encoders[precision]
    assert len(layers(packed)) == len(layers(plain)) > 30
    for before, after in zip(layers(plain), layers(packed), strict=True):
        assert after.weight.nbytes < most_part * before.weight.nbytes
    saved = sum(before.weight.nbytes for before in layers(plain))
    assert (1 - 1.1 * most_part) * saved < plain.num_bytes - packed.num_bytes < saved


def test_the_features_are_near_those_of_the_weights_as_they_are(encoders: dict[str, TextEncoder]) -> None:
    captions = ["fireworks at night", "a red circle moving left", "a blue square bounces", "two dogs run"]
    wanted, *near = (encoders[name].encode(captions).pooled for name in ("fp32", "int8", "nf4"))
    change = [(features - wanted).norm() / wanted.norm() for features in near]
    assert 0 < change[0] < 0.05
    assert 2 * change[0] < change[1] < 0.35


def test_a_packed_layer_computes_in_float32_with_weights_that_do_not_depend_on_the_input(
    pack: Callable[[nn.Linear], nn.Module],
) -> None:
    linear = random_linear(bias=True)
    bias, linear.bias = linear.bias, None
    without_bias = pack(linear)
    linear.bias = bias
    x = torch.randn(5, 128, generator=generator("x")) * 100
    torch.testing.assert_close(pack(linear)(x), x @ unpacked(without_bias).T + bias, rtol=1e-5, atol=1e-3)


def test_int8_keeps_the_nearest_of_255_weights_in_each_row() -> None:
    linear = random_linear()
    weight, kept = linear.weight, unpacked(PACKINGS["int8"](linear).to("cpu"))
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    # It reads the weights in half precision, of 11 bits.
    assert ((kept - weight).abs() <= 0.5 * step + 2**-11 * weight.abs().max()).all()
    torch.testing.assert_close((kept / step).round(), kept / step, rtol=0, atol=0.07)


def test_nf4_keeps_one_of_16_weights_in_each_block() -> None:
    linear = random_linear()
    kept = unpacked(PACKINGS["nf4"](linear).to("cpu"))
    blocks, wanted = kept.reshape(-1, 64), linear.weight.reshape(-1, 64)
    levels = blocks / blocks.abs().amax(dim=1, keepdim=True)
    assert ((levels[..., None] - torch.tensor(NF4)).abs().amin(dim=-1) < 1e-3).all()
    # The widest gap between two of the 16 is 0.304 of the largest; the scale itself is rounded too.
    assert ((blocks - wanted).abs() <= 0.17 * wanted.abs().amax(dim=1, keepdim=True)).all()


def test_a_text_means_the_same_to_the_last_bit_in_any_company(packed: TextEncoder) -> None:
    together = packed.encode(TEXTS).pooled
    alone = torch.cat([packed.encode([text]).pooled for text in reversed(TEXTS)]).flip(0)
    assert torch.equal(together, alone)


def test_the_number_of_threads_changes_no_bit(packed: TextEncoder) -> None:
    before = torch.get_num_threads()
    wanted = packed.encode(TEXTS).tokens
    try:
        torch.set_num_threads(before + 1)
        assert torch.equal(packed.encode(TEXTS).tokens, wanted)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("precision", PACKINGS)
def test_loaded_again_it_says_the_same(encoders: dict[str, TextEncoder], precision: str) -> None:
    assert torch.equal(load(precision).encode(TEXTS).tokens, encoders[precision].encode(TEXTS).tokens)


def test_a_cpu_that_has_bfloat16_hears_the_same(
    encoders: dict[str, TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoders["nf4"]
    wanted = encoder.encode(TEXTS[:1]).pooled
    for layer in layers(encoder):
        monkeypatch.setattr(layer, "support_avx512bf16_for_cpu", True)
    assert torch.equal(encoder.encode(TEXTS[:1]).pooled, wanted)


def test_it_is_still_the_same_encoder_and_frozen(plain: TextEncoder, packed: TextEncoder) -> None:
    assert packed.fingerprint == plain.fingerprint
    assert not packed._model.training
    assert not any(parameter.requires_grad for parameter in packed._model.parameters())


def test_nothing_is_said_while_it_loads_and_encodes(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for precision in PACKINGS:
        load(precision).encode(TEXTS)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_warnings_of_the_import_are_kept_back_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bitsandbytes.py").write_text(
        "import logging\nlogging.getLogger('bitsandbytes.backends').warning('no kernel')\nraise ImportError('broken')"
    )
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TextEncoderError, match=r"in int8 needs bitsandbytes \(broken\)"):
        load("int8")
    assert not caplog.records
    logging.getLogger("bitsandbytes.backends").warning("another")
    assert [record.message for record in caplog.records] == ["another"]


@pytest.mark.parametrize("precision", PACKINGS)
def test_without_bitsandbytes_one_line_says_what_would_work(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    said = rf"^a text encoder in {precision} needs bitsandbytes .*pip install bitsandbytes.*encoder_precision=fp32$"
    with pytest.raises(TextEncoderError, match=said):
        load(precision)
    assert load("fp32").encode(TEXTS[:1]).pooled.isfinite().all()


def test_a_checkpoint_is_asked_with_the_precision_it_was_trained_with(
    make_checkpoint: Callable[..., Path], fake_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def recorded(name: str, *, precision: str, **options: Any) -> Any:
        asked.append(precision)
        return fake_encoder

    monkeypatch.setattr(TextEncoder, "load", recorded)
    for text in ({"encoder_precision": "nf4"}, {}):
        path = make_checkpoint(cond_dim=fake_encoder.dim, recipe={"text": text})
        GenerationService.load(path, device="cpu").warm_up()
    assert asked == ["nf4", "fp32"]
