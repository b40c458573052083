"""What packing the text encoder saves and what it costs: memory, seconds, and the change in its features.

    python benchmarks/encoder_precision.py                       MiniLM, and a BERT of bert-base-cased's size
    python benchmarks/encoder_precision.py --encoder ./my_bert   another one, a folder or a hub name

The BERT has random weights, so its memory and seconds count but its features say little about a trained one. Each
precision is loaded in a process of its own; resident is all of that process, Python, torch and, where it packs,
bitsandbytes included. The captions are those of t2v's worlds. What the network hears is the
features less the mean of the captions', by their spread, both of fp32: so it hears a packed encoder if it was
trained with fp32, and the change is what such a mix-up would do.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import psutil
import torch

from t2v.config import DEFAULT_ENCODER, EncoderPrecisionName
from t2v.data.worlds import caption_words, draw_world
from t2v.model.text import TextEncoder
from t2v.model.unet3d import Unet3D

MB = 1e6
# Of bert-base-cased; the rest is BertConfig's default.
BERT_VOCABULARY = 28996
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Measured:
    """One encoder in one precision. pooled: n d, its features of the captions"""

    pooled: np.ndarray
    weight_bytes: int
    resident_bytes: int
    seconds: float


@dataclass(frozen=True)
class Change:
    """How far features are from those of fp32, over n captions. error: ||q - f|| / ||f||, each the mean of captions."""

    error: float
    cosine: float
    worst_cosine: float
    heard_error: float
    heard_cosine: float
    num_other_neighbours: int


def main() -> None:
    """Measure every encoder in every precision and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="default: MiniLM and a random BERT")
    parser.add_argument("--captions", type=int, default=48)
    options = parser.parse_args()
    captions = world_captions(options.captions)
    if options.encoder:
        report(options.encoder, options.encoder, captions)
        return
    report("MiniLM, 6 layers 384 wide", DEFAULT_ENCODER, captions)
    with random_bert() as folder:
        report("a random BERT, 12 layers 768 wide", str(folder), captions)


def report(title: str, encoder: str, captions: Sequence[str]) -> None:
    """Print the table of one encoder."""
    print(f"\n{title}: {len(captions)} captions")
    print("       weights  resident  s/caption   error  cosine   worst   heard: error  cosine   other neighbours")
    measured: dict[str, Measured] = {name: alone(encoder, name, captions) for name in get_args(EncoderPrecisionName)}
    for name, one in measured.items():
        change = change_of(measured["fp32"].pooled, one.pooled)
        print(
            f"{name:<5} {one.weight_bytes / MB:6.1f} MB {one.resident_bytes / MB:6.0f} MB {one.seconds:10.3f} "
            f"{change.error:7.1%} {change.cosine:7.4f} {change.worst_cosine:7.4f} {change.heard_error:14.1%} "
            f"{change.heard_cosine:7.4f} {change.num_other_neighbours:11} of {len(captions)}"
        )


def alone(encoder: str, precision: str, captions: Sequence[str]) -> Measured:
    """`measure` in a process of its own, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, encoder, precision, captions).result()


def measure(encoder: str, precision: Any, captions: Sequence[str]) -> Measured:
    """Load an encoder and let it read the captions; the first is read once more beforehand, to warm up."""
    loaded = TextEncoder.load(encoder, precision=precision, allow_download=False)
    loaded.encode(captions[:1])
    started = time.perf_counter()
    pooled = loaded.encode(captions).pooled
    seconds = (time.perf_counter() - started) / len(captions)
    return Measured(pooled.numpy(), loaded.num_bytes, psutil.Process().memory_info().rss, seconds)


def change_of(wanted: np.ndarray, pooled: np.ndarray) -> Change:
    """Compare features n d with those of fp32, as they are and as the network hears them."""
    heard_wanted, heard = (standardised(features, by=wanted) for features in (wanted, pooled))
    cosines, heard_cosines = cosine(wanted, pooled), cosine(heard_wanted, heard)
    return Change(
        error=error(wanted, pooled),
        cosine=float(cosines.mean()),
        worst_cosine=float(cosines.min()),
        heard_error=error(heard_wanted, heard),
        heard_cosine=float(heard_cosines.mean()),
        num_other_neighbours=int((neighbours(heard_wanted) != neighbours(heard)).sum()),
    )


def error(wanted: np.ndarray, got: np.ndarray) -> float:
    return float((np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).mean())


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """n, one for each pair of rows."""
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def standardised(features: np.ndarray, *, by: np.ndarray) -> np.ndarray:
    """Features n d as a network hears them that took its statistics from the features `by`."""
    network = Unet3D(dim=8, dim_mults=(1,), cond_dim=by.shape[1])
    network.set_text_statistics(torch.from_numpy(by))
    return (features - network.text_mean.numpy()) / network.text_std.numpy()


def neighbours(features: np.ndarray) -> np.ndarray:
    """For each row the number of the other row that is nearest to it."""
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def world_captions(count: int) -> list[str]:
    """The first `count` different captions of a world."""
    captions: dict[str, None] = {}
    index = 0
    while len(captions) < count:
        captions[draw_world(0, index, size=8, num_frames=4).captions[0]] = None
        index += 1
    return list(captions)


@contextmanager
def random_bert() -> Iterator[Path]:
    """A folder with a BERT as big as bert-base-cased, which knows the words of the worlds."""
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    vocabulary = {word: number for number, word in enumerate((*MARKS, *caption_words()))}
    with tempfile.TemporaryDirectory(prefix="t2v-bert-") as name, torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=BERT_VOCABULARY)).save_pretrained(name)
        BertWordPieceTokenizer(vocabulary, lowercase=False).save(f"{name}/tokenizer.json")
        yield Path(name)


if __name__ == "__main__":
    main()
