"""Captions to features: any BERT-family folder, one text independent of the others, and the table that keeps them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.config import DEFAULT_ENCODER, EncoderPrecisionName
from t2v.errors import TextEncoderError
from t2v.model.bert import Bert
from t2v.model.caption_table import CaptionTable
from t2v.model.text import FAMILY, TextEncoder

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "Red", "cat", "runs", "left", "##s"]
TEXTS = ["a red cat runs left", "cat", "", "a cats", "red cat"]


def put_tokenizer(folder: Path) -> None:
    from tokenizers.implementations import BertWordPieceTokenizer

    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    BertWordPieceTokenizer(vocabulary, lowercase=False).save(str(folder / "tokenizer.json"))


def put_model(folder: Path, kind: str = "bert", **sizes: int) -> None:
    from transformers import AutoConfig, AutoModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, vocab_size=len(VOCABULARY), **sizes)
        AutoModel.from_config(config).save_pretrained(folder)


def tiny_bert(folder: Path, hidden_size: int = 32) -> Path:
    put_model(
        folder,
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    put_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder of its own, for tests that break it."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def encoder(folder: Path) -> TextEncoder:
    return TextEncoder.load(str(folder), max_tokens=16)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[str], str]) -> None:
    """Rename the weights; those whose new name is empty are dropped."""
    path = folder / "model.safetensors"
    renamed = {change(key): value for key, value in load_file(path).items() if change(key)}
    save_file(renamed, path, metadata={"format": "pt"})


def same(encoder: TextEncoder, folder: Path) -> bool:
    other = TextEncoder.load(str(folder), max_tokens=16)
    return torch.equal(encoder.encode(TEXTS).tokens, other.encode(TEXTS).tokens)


@pytest.mark.parametrize("width", [32, 768])
def test_features_have_the_encoders_width(tmp_path: Path, width: int) -> None:
    encoder = TextEncoder.load(str(tiny_bert(tmp_path, width)), max_tokens=16)
    features = encoder.encode(TEXTS)
    assert encoder.dim == width
    assert features.pooled.shape == (5, width)
    assert features.tokens.shape == (5, 7, width)
    assert features.pooled.dtype == features.tokens.dtype == torch.float32
    assert features.mask.sum(dim=1).tolist() == [7, 3, 2, 5, 4]
    assert not features.tokens[~features.mask].any()


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_features_are_those_of_a_padded_batch_through_transformers(folder: Path, pooling: Any) -> None:
    from transformers import BertModel, BertTokenizer

    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(VOCABULARY)}, do_lower_case=False)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    # The mean of the original: every token after the first, the closing one among them, by the mask.
    after_first = batch["attention_mask"][:, 1:, None]
    means = (hidden[:, 1:] * after_first).sum(dim=1) / after_first.sum(dim=1)
    features = TextEncoder.load(str(folder), pooling=pooling, max_tokens=16).encode(TEXTS)
    torch.testing.assert_close(features.pooled, means if pooling == "mean" else hidden[:, 0])
    torch.testing.assert_close(features.tokens[features.mask], hidden[features.mask])


def test_our_bert_says_what_transformers_says_to_the_last_bit(encoder: TextEncoder, folder: Path) -> None:
    from transformers import BertModel

    assert isinstance(encoder._model, Bert)
    theirs = BertModel.from_pretrained(folder).eval()
    for text in TEXTS:
        ids = torch.tensor([encoder._tokenizer.encode(text).ids])
        with torch.no_grad():
            hidden = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        features = encoder.encode([text])
        assert torch.equal(features.tokens[0], hidden)


@pytest.mark.parametrize("setting", [{"hidden_act": "relu"}, {"is_decoder": True}])
def test_what_is_not_plainly_a_bert_is_left_to_transformers(
    encoder: TextEncoder, copy: Path, setting: dict[str, Any]
) -> None:
    change_config(copy, **setting)
    other = TextEncoder.load(str(copy), max_tokens=16)
    assert not isinstance(other._model, Bert)
    assert not torch.equal(other.encode(TEXTS).tokens, encoder.encode(TEXTS).tokens)


def test_a_text_means_the_same_to_the_last_bit_in_any_company(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS * 7)
    for row, text in enumerate(TEXTS):
        alone = encoder.encode([text])
        assert torch.equal(alone.pooled[0], together.pooled[row])
        assert torch.equal(alone.tokens[0], together.tokens[row][together.mask[row]])


def test_the_empty_text_is_its_closing_mark(encoder: TextEncoder) -> None:
    features = encoder.encode([""])
    assert torch.equal(features.pooled[0], features.tokens[0, 1])
    assert features.pooled.isfinite().all()


def test_no_texts_give_empty_features(encoder: TextEncoder) -> None:
    features = encoder.encode([])
    assert [tuple(part.shape) for part in features] == [(0, 32), (0, 0, 32), (0, 0), (0,)]


def test_a_long_text_is_cut_and_told(folder: Path) -> None:
    features = TextEncoder.load(str(folder), max_tokens=4).encode(["red cat", "red cat runs left", "cat"])
    assert features.truncated.tolist() == [False, True, False]
    assert torch.equal(features.tokens[0], features.tokens[1])


def test_the_encoder_is_frozen(encoder: TextEncoder) -> None:
    assert not any(weight.requires_grad for weight in encoder._model.parameters())
    assert not encoder.encode(["cat"]).pooled.requires_grad


def test_half_a_surrogate_in_a_file_name_is_a_question_mark(encoder: TextEncoder) -> None:
    odd, question = encoder.encode(["cat \udcff", "cat ?"]).pooled
    assert torch.equal(odd, question)


def test_loading_says_nothing_on_the_terminal(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    change_weights(copy, lambda key: "" if key.startswith("pooler.") else key)
    TextEncoder.load(str(copy), max_tokens=16)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_fingerprint_is_of_the_weights_wherever_they_lie(encoder: TextEncoder, copy: Path) -> None:
    assert TextEncoder.load(str(copy), max_tokens=16).fingerprint == encoder.fingerprint
    change_weights(copy, lambda key: "" if key.startswith("pooler.") else key)
    assert TextEncoder.load(str(copy), max_tokens=16).fingerprint != encoder.fingerprint


def test_weights_named_as_in_bert_base_cased_are_the_same(encoder: TextEncoder, copy: Path) -> None:
    def older(key: str) -> str:
        return "bert." + key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    change_weights(copy, older)
    change_config(copy, architectures=["BertForMaskedLM"])
    assert same(encoder, copy)


def test_a_vocabulary_file_serves_as_well_as_a_tokenizer_file(encoder: TextEncoder, copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (copy / "tokenizer_config.json").write_text('{"do_lower_case": false, "tokenizer_class": "BertTokenizer"}')
    assert same(encoder, copy)
    upper, lower = TextEncoder.load(str(copy), max_tokens=16).encode(["Red", "red"]).pooled
    assert not torch.equal(upper, lower)


def test_a_missing_weight_is_an_error_not_a_random_one(copy: Path) -> None:
    change_weights(copy, lambda key: "" if key == "encoder.layer.1.output.dense.weight" else key)
    with pytest.raises(TextEncoderError, match=r"lacks 1 weights .*encoder\.layer\.1\.output\.dense\.weight first"):
        TextEncoder.load(str(copy), max_tokens=16)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"not json", "does not describe a text encoder"),
        ("config.json", b"{}", "does not describe a text encoder.*model_type"),
        (
            "config.json",
            b'{"model_type": "gpt2", "max_position_embeddings": 16}',
            "holds a 'gpt2'; t2v reads .*roberta",
        ),
        ("model.safetensors", b"not weights", "cannot be loaded"),
        ("tokenizer.json", b"{}", "tokenizer in .* cannot be loaded"),
    ],
)
def test_a_broken_folder_is_a_clear_error(copy: Path, file: str, content: bytes, message: str) -> None:
    (copy / file).write_bytes(content)
    with pytest.raises(TextEncoderError, match=message):
        TextEncoder.load(str(copy), max_tokens=16)


def test_weights_of_other_shapes_are_an_error(copy: Path) -> None:
    change_config(copy, intermediate_size=48)
    with pytest.raises(TextEncoderError, match="cannot be loaded"):
        TextEncoder.load(str(copy), max_tokens=16)


def test_a_tokenizer_of_another_model_is_an_error(copy: Path, tmp_path: Path) -> None:
    from tokenizers.implementations import BertWordPieceTokenizer

    more = {word: number for number, word in enumerate([*VOCABULARY, "dog"])}
    BertWordPieceTokenizer(more).save(str(copy / "tokenizer.json"))
    with pytest.raises(TextEncoderError, match="of another model: it knows 13 tokens, the weights 12"):
        TextEncoder.load(str(copy), max_tokens=16)


def test_a_tokenizer_without_marks_is_an_error(copy: Path) -> None:
    path = copy / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    with pytest.raises(TextEncoderError, match="puts no marks around a text"):
        TextEncoder.load(str(copy), max_tokens=16)


def test_more_tokens_than_the_encoder_reads_is_an_error(folder: Path) -> None:
    with pytest.raises(TextEncoderError, match=r"reads at most 16 tokens; text\.max_tokens is 17"):
        TextEncoder.load(str(folder), max_tokens=17)


def test_a_table_holds_each_caption_once(encoder: TextEncoder) -> None:
    table = CaptionTable.build(encoder, iter(["cat", "red cat", "cat", ""]))
    assert table.pooled.shape == (3, 32)
    for caption in ("cat", "red cat", ""):
        assert torch.equal(table.pooled[table.index(caption)], encoder.encode([caption]).pooled[0])
    with pytest.raises(KeyError):
        table.index("dog")


def test_a_table_does_not_depend_on_the_order_of_the_captions(encoder: TextEncoder) -> None:
    forwards, backwards = (CaptionTable.build(encoder, captions) for captions in (TEXTS, TEXTS[::-1]))
    assert forwards.rows == backwards.rows
    assert torch.equal(forwards.pooled, backwards.pooled)


def test_a_table_tells_which_captions_were_cut(folder: Path) -> None:
    table = CaptionTable.build(TextEncoder.load(str(folder), max_tokens=4), ["cat", "a red cat runs left"])
    assert table.truncated == ("a red cat runs left",)


def test_no_captions_give_an_empty_table(encoder: TextEncoder) -> None:
    assert CaptionTable.build(encoder, []).pooled.shape == (0, 32)


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder.load(DEFAULT_ENCODER, allow_download=False)


def test_the_default_encoder_hears_what_is_alike(minilm: TextEncoder) -> None:
    night, sky, circle = minilm.encode(
        ["fireworks at night", "fireworks in the night sky", "a red circle moving left"]
    )[0]
    assert minilm.dim == 384
    assert torch.cosine_similarity(night, sky, dim=0) > 0.8
    assert torch.cosine_similarity(night, circle, dim=0) < 0.2


def test_the_number_of_threads_changes_no_bit_and_stays_as_it_was(minilm: TextEncoder) -> None:
    before = torch.get_num_threads()
    texts = ["fireworks at night " * times for times in range(1, 9)] + ["a red circle moving left", "fireworks"]
    try:
        torch.set_num_threads(1)
        one = minilm.encode(texts).tokens
        torch.set_num_threads(2)
        two = minilm.encode(texts).tokens
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


def test_the_default_encoder_reads_no_case(minilm: TextEncoder) -> None:
    upper, lower = minilm.encode(["Fireworks at NIGHT", "fireworks at night"]).pooled
    assert torch.equal(upper, lower)


@pytest.mark.slow
@pytest.mark.parametrize("precision", get_args(EncoderPrecisionName))
@pytest.mark.parametrize("kind", FAMILY)
def test_every_kind_of_the_family_reads_as_many_tokens_as_it_says(tmp_path: Path, kind: str, precision: Any) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 40}
    if kind == "distilbert":
        sizes = {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 40}
    put_model(tmp_path, kind, **sizes, max_position_embeddings=16, pad_token_id=1 if FAMILY[kind] else 0)
    put_tokenizer(tmp_path)
    encoder = TextEncoder.load(str(tmp_path), max_tokens=16 - FAMILY[kind], precision=precision)
    features = encoder.encode(["cat " * 20, "red"])
    assert encoder.dim == 32
    assert features.truncated.tolist() == [True, False]
    assert features.mask.sum(dim=1).tolist() == [16 - FAMILY[kind], 3]
    with pytest.raises(TextEncoderError, match=r"text\.max_tokens"):
        TextEncoder.load(str(tmp_path), max_tokens=17 - FAMILY[kind])
