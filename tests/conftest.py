"""What every test shares: no network but loopback, no model cache of this machine, and the full golden figures."""

import gc
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# One thread a process, set before torch is imported: threads that wait for each other make tests on a busy machine
# ten times slower, and the tests run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # and where a test wants two, they wait without spinning

LOOPBACK = {None, "", "localhost", "127.0.0.1", "::1"}


pytest_plugins = ["golden_figures"]


def pytest_configure(config: pytest.Config) -> None:
    # A test does not fail because the machine has other things to do.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    # huggingface_hub reads these once, when it is imported. A test that wants a hub brings its own.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(config.cache.mkdir("empty-hub")) if getattr(config, "cache", None) else "empty-hub"


def pytest_collection_finish() -> None:
    # What is there by now stays. Left to the collector, it is gone through each time that a video is closed.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What fixtures of a wider scope than one test keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("T2V_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins with a cache of its own, a folder that is not there yet."""
    monkeypatch.setenv("T2V_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{uuid.uuid4().hex}"))


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Fail the test that looks up another machine, before its name leaves this one."""
    look_up = socket.getaddrinfo

    def look_up_loopback(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in LOOPBACK:
            pytest.fail(f"a test asked for the network: {name}")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up_loopback)
        yield


class DecoderHere:
    """Stands for a process of `data.workers`: does what the process would do, and takes no half a second to start."""

    is_alive = True

    def __init__(self, command: Sequence[str], **limits: float) -> None:
        pass

    def ask(self, task: Any, contents: Sequence[bytes]) -> tuple[dict[str, Any], Any]:
        from t2v.data import worker_main

        facts, frames = worker_main.answer(task.name, contents, json.loads(json.dumps(task.settings)))
        if frames is not None:
            frames.flags.writeable = False  # as what comes out of a pipe
        return json.loads(json.dumps(facts)), frames

    def end(self) -> None:
        pass


@pytest.fixture(autouse=True, scope="session")
def real_decoder() -> Iterator[type]:
    """Clips are decoded in this process, save where a test asks for `decoder_processes`."""
    from t2v.data import workers

    real = workers._Process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_Process", DecoderHere)
        yield real


@pytest.fixture
def decoder_processes(real_decoder: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are decoded by processes of their own, as they are for everybody else."""
    monkeypatch.setattr("t2v.data.workers._Process", real_decoder)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """make_checkpoint(name, cond_dim=None, recipe={...}, **header) writes a minute model with fixed random weights."""
    return lambda name="tiny.safetensors", **told: write_checkpoint(tmp_path / name, **told)


def write_checkpoint(
    path: Path, *, cond_dim: int | None = None, recipe: dict[str, Any] | None = None, seed: int = 0, **header: Any
) -> Path:
    """A minute model, with `recipe` over its own and random weights of this seed."""
    import torch

    from t2v.checkpoint import Header, build_network, save_checkpoint
    from t2v.reading import recipe_from_mapping

    sections: dict[str, dict[str, Any]] = {
        "data": {"size": 8, "num_frames": 3},
        "model": {
            "dim": 8,
            "dim_mults": [1],
            "patch": 2,
            "attn_heads": 2,
            "attn_dim_head": 8,
            "init_kernel_size": 3,
        },
    }
    for section, values in (recipe or {}).items():
        sections[section] = {**sections.get(section, {}), **values}
    built = recipe_from_mapping(sections)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = build_network(built, cond_dim).state_dict()
    told = {"t2v_version": "0", "frame_ms": 125.0, "step": 7, "num_clips": 2} | header
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, weights, Header(recipe=built, cond_dim=cond_dim, **told))
    return path


class FakeEncoder:
    """A text encoder in a few lines: its features are a function of the text alone, each token's of its word."""

    name = "a fake"
    pooling = "mean"
    max_tokens = 64
    dim = 6
    fingerprint = "fake"
    tokenizer_sha256 = "fake"
    source = "hub cache"

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: list[str]) -> Any:
        import torch

        from t2v.model.text import TextFeatures
        from t2v.runtime import generator

        def drawn(word: str) -> Any:
            return torch.randn(self.dim, generator=generator("text", word))

        self.read += texts
        words = [["", *text.split()] for text in texts]  # a mark comes before the words
        mask = torch.zeros(len(texts), max(map(len, words), default=0), dtype=torch.bool)
        tokens = torch.zeros(*mask.shape, self.dim)
        for row, said in enumerate(words):
            tokens[row, : len(said)] = torch.stack([drawn(word) for word in said])
            mask[row, : len(said)] = True
        pooled = torch.stack([drawn(text) for text in texts])
        return TextFeatures(
            pooled=pooled, tokens=tokens, mask=mask, truncated=torch.zeros(len(texts), dtype=torch.bool)
        )


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """What every checkpoint with text loads in place of a BERT; give checkpoints its `dim` as cond_dim."""
    from t2v.model.text import TextEncoder

    encoder = FakeEncoder()
    monkeypatch.setattr(TextEncoder, "load", lambda name, **options: encoder)
    return encoder
