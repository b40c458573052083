"""What every test shares: no network but loopback, no model cache of this machine, and the full golden figures."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOOPBACK = {None, "", "localhost", "127.0.0.1", "::1"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", type=Path, metavar="FOLDER", help="all golden figures, of which tests/golden holds a part"
    )


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub reads these once, when it is imported. A test that wants a hub brings its own.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(config.cache.mkdir("empty-hub")) if config.cache else "empty-hub"


@pytest.fixture(scope="session")
def golden_folder(pytestconfig: pytest.Config) -> Path | None:
    """The folder named by --golden; None without it."""
    return pytestconfig.getoption("--golden")


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
