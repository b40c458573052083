"""The features of a data set's captions: encoded once, and kept on the user's disk."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from t2v.cache import RowCache
from t2v.model.text import TextEncoder, writable

TOKEN_DTYPE = np.float16  # of tokens that are kept: features of about 1, of which there are many


@dataclass(frozen=True)
class KeptFeatures:
    """Features by one encoder that are on the user's disk.

    pooled: rows of one vector, d float32; tokens: rows of a caption's tokens, d TOKEN_DTYPE; None where none are read
    """

    pooled: RowCache
    tokens: RowCache | None = None


@dataclass(frozen=True)
class CaptionTable:
    """The features of a data set's captions, computed once; equal captions give equal tables, in any order."""

    pooled: Tensor
    """n d float32, one row for each different caption"""
    truncated: tuple[str, ...]
    """captions that were cut at the encoder's max_tokens"""
    rows: dict[str, int]
    tokens: Sequence[np.ndarray] | None = None
    """n of l d TOKEN_DTYPE, the tokens of each, read from where they lie; None where no network reads them"""

    @classmethod
    def build(
        cls,
        encoder: TextEncoder,
        captions: Iterable[str],
        *,
        with_tokens: bool = False,
        kept: KeptFeatures | None = None,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> Self:
        """Encode every different caption once, about 0.02 s each, save those that `kept` holds; it takes the others.

        tell: called with how many are done, and of how many, after each that was encoded
        """
        kept = kept or KeptFeatures(_in_memory(np.float32, encoder.dim), _in_memory(TOKEN_DTYPE, encoder.dim))
        kept_tokens = kept.tokens if with_tokens else None
        unique = sorted(set(captions))
        pooled = torch.zeros(len(unique), encoder.dim)
        truncated, keys = [], []
        # Token features of one caption at a time: of thousands at once they would fill gigabytes.
        for row, caption in enumerate(unique):
            key = hashlib.sha256(writable(caption).encode()).hexdigest()
            facts = kept.pooled.facts(key)
            if facts is None or (kept_tokens is not None and kept_tokens.facts(key) is None):
                features = encoder.encode([caption])
                facts = {"truncated": bool(features.truncated[0])}
                kept.pooled.add(key, features.pooled[:1].numpy(), facts)
                if kept_tokens is not None:
                    kept_tokens.add(key, features.tokens[0].numpy().astype(TOKEN_DTYPE), facts)
                tell(row + 1, len(unique))
            pooled[row] = torch.from_numpy(kept.pooled.array(key)[0].copy())
            keys.append(key)
            if facts["truncated"]:
                truncated.append(caption)
        return cls(
            pooled=pooled,
            truncated=tuple(truncated),
            rows={caption: row for row, caption in enumerate(unique)},
            tokens=None if kept_tokens is None else [kept_tokens.array(key) for key in keys],
        )

    def index(self, caption: str) -> int:
        """Row of a caption that the table was built with."""
        return self.rows[caption]


def _in_memory(dtype: type[np.generic], dim: int) -> RowCache:
    return RowCache(None, "text", shape=(dim,), dtype=dtype, say=lambda line: None)
