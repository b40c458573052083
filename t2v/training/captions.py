"""The captions of a run's clips and their features: encoded once, and kept with the run."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from t2v.cache import RowCache, cache_folder
from t2v.checkpoint.atomic import write_atomically, write_tensors
from t2v.config import EncoderPrecisionName, Recipe
from t2v.data.captions import mentions_side
from t2v.data.folder import LoadedClips
from t2v.model.caption_table import TOKEN_DTYPE, CaptionTable, KeptFeatures
from t2v.model.text import TextEncoder, TextFeatures
from t2v.training.batches import MappedClips, TrainingClips
from t2v.training.telling import telling


@dataclass(frozen=True)
class RunCaptions:
    """The captions of a folder and their features; no features where no clip has a caption."""

    table: CaptionTable | None
    encoder: TextEncoder | None
    key: str = ""
    """all that the features depend on"""

    @classmethod
    def read(
        cls, clips: LoadedClips, recipe: Recipe, say: Callable[[str], None], *, kept: Path | None = None
    ) -> "RunCaptions":
        """Encode the captions, save those whose features are kept.

        kept: file of this run's own features, if an earlier start wrote one; the user's cache has those of all runs
        """
        texts = [caption for record in clips.records for caption in record.captions if caption]
        if not texts:
            say("no clip has a caption: training without text")
            return cls(None, None)
        text = recipe.text
        encoder = TextEncoder.load(
            text.encoder, pooling=text.pooling, max_tokens=text.max_tokens, precision=text.encoder_precision
        )
        say(f"captions read by {encoder.name} (from {encoder.source})")
        key, with_tokens = _table_key(encoder, text.encoder_precision, sorted(set(texts))), recipe.model.reads_tokens
        table = _kept_table(kept, key, with_tokens=with_tokens) if kept else None
        if table is None:
            with ExitStack() as files:
                caches = (
                    files.enter_context(_kept_features(encoder, text.encoder_precision, what, dtype, say))
                    for what, dtype in (("text", np.float32), ("tokens", TOKEN_DTYPE))[: 1 + with_tokens]
                )
                table = CaptionTable.build(
                    encoder,
                    texts,
                    with_tokens=with_tokens,
                    kept=KeptFeatures(*caches),
                    tell=telling(say, "captions encoded"),
                )
        for caption in table.truncated:
            say(f"warning: only the first {text.max_tokens} tokens are read of {caption[:60]!r}...")
        return cls(table, encoder, key)

    def keep(self, path: Path) -> None:
        """Write the features to a file, from which later starts take them."""
        if self.table is None:
            return
        metadata = {"key": self.key, "truncated": json.dumps(self.table.truncated)}
        tensors = {"pooled": self.table.pooled}
        if self.table.tokens is not None:
            tensors["tokens"] = torch.from_numpy(np.concatenate(self.table.tokens))
            tensors["num_tokens"] = torch.tensor([len(tokens) for tokens in self.table.tokens])
        write_atomically(path, lambda temporary: write_tensors(temporary, tensors, metadata))

    @property
    def texts(self) -> tuple[str, ...]:
        """Every caption once."""
        return () if self.table is None else tuple(self.table.rows)

    @property
    def encoder_sha256(self) -> str | None:
        return None if self.encoder is None else self.encoder.fingerprint

    @property
    def pooled(self) -> Tensor | None:
        return None if self.table is None else self.table.pooled

    @property
    def cond_dim(self) -> int | None:
        return None if self.table is None else self.table.pooled.shape[1]

    def features(self, prompts: tuple[str, ...]) -> TextFeatures | None:
        """Those of the prompts of a sample sheet."""
        return None if self.encoder is None else self.encoder.encode(prompts)

    def tokens(self) -> Iterator[Tensor]:
        """The tokens of each caption, l d; nothing where no network reads them."""
        for tokens in () if self.table is None else self.table.tokens or ():
            yield torch.from_numpy(tokens.copy())

    def training_clips(self, clips: LoadedClips) -> TrainingClips:
        """Pixels and captions as batches are drawn from them."""
        frames = MappedClips(clips.frames)
        if self.table is None:
            return TrainingClips(frames, [()] * len(frames), (), None)
        index = self.table.index
        # An empty caption says that there is no text, which is another thing than a text without words.
        rows = [tuple(index(text) if text else -1 for text in record.captions) for record in clips.records]
        weights = {place: record.weights for place, record in enumerate(clips.records) if record.weights}
        keeps_side = [mentions_side(caption) for caption in self.texts]
        return TrainingClips(frames, rows, keeps_side, self.table.pooled, weights, tokens=self.table.tokens)


def _table_key(encoder: TextEncoder, precision: EncoderPrecisionName, texts: Sequence[str]) -> str:
    """All that the features of captions depend on. texts: every caption once, sorted."""
    return json.dumps([encoder.fingerprint, precision, encoder.pooling, encoder.max_tokens, list(texts)])


def _kept_features(
    encoder: TextEncoder,
    precision: EncoderPrecisionName,
    what: str,
    dtype: type[np.generic],
    say: Callable[[str], None],
) -> RowCache:
    """The user's cache of features by just this encoder; its key of a row is the caption."""
    # Last bits depend on who computes: a home folder may be shared by machines.
    computed_by = (torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability())
    said_by = (encoder.fingerprint, encoder.tokenizer_sha256, precision, encoder.pooling, encoder.max_tokens)
    digest = hashlib.sha256(json.dumps([*said_by, *computed_by]).encode()).hexdigest()
    return RowCache(cache_folder(), f"{what}/{digest[:32]}", shape=(encoder.dim,), dtype=dtype, say=say)


def _kept_table(path: Path, key: str, *, with_tokens: bool) -> CaptionTable | None:
    """The features kept in a file, if it is there, whole, and about these captions and this encoder."""
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("key") != key:
                return None
            pooled, truncated = opened.get_tensor("pooled"), json.loads(metadata["truncated"])
            tokens = None
            if with_tokens:
                ends = opened.get_tensor("num_tokens").cumsum(0)[:-1].tolist()
                tokens = np.split(opened.get_tensor("tokens").numpy(), ends)
    except (OSError, SafetensorError):
        return None
    rows = {caption: row for row, caption in enumerate(json.loads(key)[-1])}
    return CaptionTable(pooled=pooled, truncated=tuple(truncated), rows=rows, tokens=tokens)
