"""A frozen BERT that turns captions into features."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from logging import ERROR, getLogger
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2v.config import EncoderPrecisionName, PoolingName
from t2v.errors import TextEncoderError
from t2v.model.bert import Bert, load_bert
from t2v.model.encoder_files import CONFIG, TOKENIZER, WEIGHTS, EncoderFiles, SourceName, find_encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

# Encoders that read a text between two marks, with the places that each takes off its position table.
FAMILY = {
    "albert": 0,
    "bert": 0,
    "camembert": 2,
    "distilbert": 0,
    "electra": 0,
    "mpnet": 2,
    "roberta": 2,
    "xlm-roberta": 2,
}


class TextFeatures(NamedTuple):
    """What an encoder says of n texts: raw float32 outputs on the CPU, of l tokens at most.

    Nothing is scaled here: whoever uses them standardises them with statistics of the training captions.
    """

    pooled: Tensor
    """n d"""
    tokens: Tensor
    """n l d, the marks around the text among them; zero where padded"""
    mask: Tensor
    """n l, true where there is a token"""
    truncated: Tensor
    """n, true where a text was longer than max_tokens and lost its end"""

    def at(self, rows: slice) -> "TextFeatures":
        """The features of some of the texts."""
        return TextFeatures(*(each[rows] for each in self))

    def repeated(self, number: int) -> "TextFeatures":
        """The features of one text, as those of that many."""
        return TextFeatures(*(each.expand(number, *[-1] * (each.ndim - 1)) for each in self))

    def padded(self, length: int) -> "TextFeatures":
        """The same with room for that many tokens, which is none less than there is."""
        more = length - self.tokens.shape[1]
        return self._replace(tokens=F.pad(self.tokens, (0, 0, 0, more)), mask=F.pad(self.mask, (0, more)))

    def as_input(self, device: torch.device) -> dict[str, Tensor]:
        """What a network takes, with each text heard."""
        is_null = torch.zeros(len(self.pooled), dtype=torch.bool)
        given = {"pooled": self.pooled, "tokens": self.tokens, "mask": self.mask, "is_null": is_null}
        return {name: tensor.to(device) for name, tensor in given.items()}


def joined(features: Sequence[TextFeatures]) -> TextFeatures:
    """The features of some texts, at least one, as those of all of them."""
    longest = max(each.mask.shape[1] for each in features)
    return TextFeatures(*map(torch.cat, zip(*(each.padded(longest) for each in features), strict=True)))


class TextEncoder:
    """A BERT-family encoder with its tokenizer: frozen, in evaluation mode, the same features for the same text.

    name: as it was asked for; source: where its files were found; dim: width d of the features
    fingerprint: sha256 of its weights, by which a checkpoint can tell that another encoder is used
    """

    def __init__(
        self,
        model: "Bert | _FromTransformers",
        tokenizer: "Tokenizer",
        *,
        name: str,
        pooling: PoolingName,
        max_tokens: int,
        files: EncoderFiles,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self.name = name
        self.pooling: PoolingName = pooling
        self.max_tokens = max_tokens
        self.dim = model.dim
        self.source: SourceName = files.source
        self.fingerprint = files.fingerprint

    @classmethod
    def load(
        cls,
        name: str,
        *,
        pooling: PoolingName = "mean",
        max_tokens: int = 64,
        precision: EncoderPrecisionName = "fp32",
        device: str | torch.device = "cpu",
        allow_download: bool = True,
    ) -> Self:
        """Load an encoder by local folder or hub name; see `find_encoder` for where it is looked for.

        pooling: "mean" of all tokens after the first, the closing mark among them, or the "first" token
        precision: how its Linear layers keep their weights, see `PACKINGS`; each precision has features of its own
        Raises TextEncoderError if it is not found, not of the BERT family, broken, or reads fewer than max_tokens, or
        if it is to be packed and bitsandbytes is missing.
        """
        files = find_encoder(name, allow_download=allow_download)
        config = _read_config(files, max_tokens)
        model = load_bert(files.folder / WEIGHTS, config) or _FromTransformers(files)
        model.requires_grad_(False).eval()
        if precision != "fp32":
            _pack(model, precision, device)
        model.to(device)
        tokenizer = _load_tokenizer(files, vocab_size=model.vocab_size)
        return cls(model, tokenizer, name=name, pooling=pooling, max_tokens=max_tokens, files=files)

    @cached_property
    def tokenizer_sha256(self) -> str:
        """Hash of all that the tokenizer does with a text, in hex."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        """Memory that its weights take, with the scales of packed ones."""
        return sum(tensor.nbytes for tensor in self._model.state_dict().values())

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features of n texts, each of them independent of the others to the last bit; an empty text is a text too."""
        # One by one: in a batch, even of equal lengths, the last bits of a text depend on its company.
        encodings = [self._tokenizer.encode(writable(text)) for text in texts]
        with _one_thread():
            outputs = [self._forward(encoding.ids) for encoding in encodings]
        longest = max(map(len, outputs), default=0)
        tokens = torch.zeros(len(outputs), longest, self.dim)
        mask = torch.zeros(len(outputs), longest, dtype=torch.bool)
        for row, output in enumerate(outputs):
            tokens[row, : len(output)] = output
            mask[row, : len(output)] = True
        pooled = torch.zeros(len(outputs), self.dim)
        for row, output in enumerate(outputs):
            pooled[row] = output[0] if self.pooling == "first" else output[1:].mean(dim=0)
        truncated = torch.tensor([bool(encoding.overflowing) for encoding in encodings], dtype=torch.bool)
        return TextFeatures(pooled=pooled, tokens=tokens, mask=mask, truncated=truncated)

    @torch.no_grad()
    def _forward(self, ids: list[int]) -> Tensor:
        """Token ids to their last hidden states, l d, on the CPU."""
        device = next(self._model.parameters()).device
        last: Tensor = self._model(torch.tensor([ids], device=device))[0].cpu()
        return last


def _read_config(files: EncoderFiles, max_tokens: int) -> dict[str, Any]:
    """The content of config.json; refuses, before anything is loaded, a model that this file cannot drive."""
    path = files.folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind, positions = config["model_type"], config["max_position_embeddings"]
    except (ValueError, KeyError, TypeError) as error:
        raise TextEncoderError(f"{path} does not describe a text encoder: {type(error).__name__}: {error}") from error
    if kind not in FAMILY:
        raise TextEncoderError(f"{files.folder} holds a {kind!r}; t2v reads text with one of {', '.join(FAMILY)}")
    limit = positions - FAMILY[kind]
    if max_tokens > limit:
        raise TextEncoderError(f"{files.folder} reads at most {limit} tokens; text.max_tokens is {max_tokens}")
    return config


class _FromTransformers(nn.Module):
    """Any member of the family, as transformers reads it: called as `Bert` is."""

    def __init__(self, files: EncoderFiles) -> None:
        super().__init__()
        from transformers import AutoModel

        try:
            with _quiet_transformers():
                model, report = AutoModel.from_pretrained(
                    files.folder,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
        # A folder of strangers can make transformers raise anything.
        except Exception as error:
            raise TextEncoderError(f"{files.folder} cannot be loaded: {type(error).__name__}: {error}") from error
        # The pooler on top is never used, and many checkpoints come without. Anything else missing would be random.
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
        if missing:
            raise TextEncoderError(f"{files.folder} lacks {len(missing)} weights of its model, {missing[0]} first")
        self.model: PreTrainedModel = model
        self.dim: int = model.config.hidden_size
        self.vocab_size: int = model.config.vocab_size

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids 1 n to their last hidden states, 1 n d."""
        output = self.model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))
        last: Tensor = output.last_hidden_state
        return last


def _pack(model: nn.Module, precision: str, device: str | torch.device) -> None:
    """Put layers of bitsandbytes in the place of all Linear ones, whose weights are packed as they reach the device."""
    try:
        with _quiet_bitsandbytes():
            import bitsandbytes  # noqa: F401 the packings take what they need of it
    except ImportError as error:
        raise TextEncoderError(
            f"a text encoder in {precision} needs bitsandbytes ({error}); try: pip install bitsandbytes; "
            "to train with the weights as they are, set text.encoder_precision=fp32"
        ) from None
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            packed = PACKINGS[precision](layer)
            # In training mode bitsandbytes multiplies float32 inputs with the unpacked weights, on any CPU. In
            # evaluation mode int8 rounds the inputs too, and MiniLM's features change by 7% instead of 3%; nf4
            # computes in bfloat16 where the CPU can: another machine, other features.
            model.set_submodule(name, packed.train().to(device))
    # What is not packed are views of the whole file, which stays in memory until the last of them is gone.
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.clone()


def _int8(linear: nn.Linear) -> nn.Module:
    """Rows of whole numbers in [-127, 127] with a scale each (Dettmers et al. 2022, LLM.int8(), section 3.1)."""
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    packed = Linear8bitLt(linear.in_features, linear.out_features, has_fp16_weights=False, device="meta")
    packed.weight = Int8Params(linear.weight.data, has_fp16_weights=False, requires_grad=False)
    packed.bias = linear.bias
    return packed


def _nf4(linear: nn.Linear) -> nn.Module:
    """Blocks of 64 weights, each the nearest of 16 quantiles of a normal distribution, with a scale that is packed
    in its turn (Dettmers et al. 2023, QLoRA, section 3)."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    packed = Linear4bit(linear.in_features, linear.out_features, quant_type="nf4", device="meta")
    packed.weight = Params4bit(linear.weight.data, quant_type="nf4")
    packed.bias = linear.bias
    return packed


PACKINGS: dict[str, Callable[[nn.Linear], nn.Module]] = {"int8": _int8, "nf4": _nf4}


def _load_tokenizer(files: EncoderFiles, *, vocab_size: int) -> "Tokenizer":
    from tokenizers import Tokenizer

    path = files.folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _older_tokenizer(files)
        num_marks = len(tokenizer.encode("").ids)
    # tokenizers raises bare Exception.
    except Exception as error:
        raise TextEncoderError(f"the tokenizer in {files.folder} cannot be loaded: {error}") from error
    if num_marks < 2:
        raise TextEncoderError(f"the tokenizer in {files.folder} puts no marks around a text, such as [CLS] and [SEP]")
    if tokenizer.get_vocab_size() > vocab_size:
        raise TextEncoderError(
            f"the tokenizer in {files.folder} is of another model: "
            f"it knows {tokenizer.get_vocab_size()} tokens, the weights {vocab_size}"
        )
    return tokenizer


def _older_tokenizer(files: EncoderFiles) -> "Tokenizer":
    """A tokenizer kept as vocab.txt and tokenizer_config.json, as BERT first came."""
    from transformers import AutoTokenizer

    with _quiet_transformers():
        read = AutoTokenizer.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
    tokenizer: Tokenizer = read.backend_tokenizer
    return tokenizer


@contextmanager
def _one_thread() -> Iterator[None]:
    """One CPU thread: a caption is too short to share out, and then the last bits do not depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_bitsandbytes() -> Iterator[None]:
    """Errors only: on CPUs with bfloat16 its import warns that it could not fetch a kernel, which is not used here."""
    logger = getLogger("bitsandbytes")
    before = logger.level
    logger.setLevel(ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No bar and no report of unused weights on stderr: what matters of them becomes an error here."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # half of it is untyped
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def writable(text: str) -> str:
    """Halves of surrogate pairs, as file names that are not UTF-8 bring them, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
