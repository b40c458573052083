"""A real page, served on loopback in this process with a minute model and a fake text encoder."""

import gc
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

WORDS = ("fireworks", "at", "night", "green", "slow")

# Each process looks for ports of its own. Gradio reads this when it is imported; two that try the same port both get
# one in the end, but not before the server's thread has died of it.
os.environ.setdefault("GRADIO_SERVER_PORT", str(10_000 + 100 * (os.getpid() % 200)))
# For machines with something else to do. Nothing waits so long that works, so that a test may be patient.
PATIENCE_S = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Gradio leaves event loops and sockets to the garbage collector, which may come in the middle of a test.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(scope="module", autouse=True)
def no_remains() -> Iterator[None]:
    """What the pages of a module leave to the garbage collector is not found by tests that know nothing of pages."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
def serve(make_checkpoint: Callable[..., Path], fake_encoder: Any, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """serve(**options of serve_page) gives the address of a page, closed with the test.

    Its first model has 8x8 pixels, 3 frames, and knows WORDS; its runs are in tmp_path / "runs".
    """
    from t2v.page import serve_page

    with ExitStack() as pages:

        def start(**options: Any) -> str:
            checkpoint = make_checkpoint(
                cond_dim=fake_encoder.dim, words=WORDS, example_prompts=("fireworks at night",)
            )
            folders = {"runs": tmp_path / "runs", "checkpoints": tmp_path / "checkpoints"}
            return pages.enter_context(serve_page(**{"checkpoint": checkpoint, **folders, **options}))

        yield start


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], None]:
    """until(condition) waits for what another thread brings about."""

    def wait(condition: Callable[[], Any]) -> None:
        ends = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < ends, "it never came about"
            time.sleep(0.01)

    return wait


# What the browser tests share: a browser, visitors, and a network that waits.

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, with a fresh profile."""
    from playwright.sync_api import expect, sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(f"the browser tests need Chromium: none of {', '.join(BROWSERS)} is installed")
    expect.set_options(timeout=1000 * PATIENCE_S)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=[*BROWSER_FLAGS])


class Visitor:
    """Somebody's tab, with the page open in it."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address = address
        self.asked_for: list[str] = []
        self.went_wrong: list[str] = []
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(1000 * PATIENCE_S)
        self.context.on("request", lambda request: self.asked_for.append(request.url))
        self.context.on("weberror", lambda error: self.went_wrong.append(str(error.error)))
        self.context.on("response", self._look_at)
        self.page = self.context.new_page()
        self.page.goto(address)
        self.page.locator("#about p").wait_for()  # the answer to the page's own arrival
        self.stage, self.status = self.page.locator("#stage"), self.page.locator("#status")
        self.gallery = self.page.locator("#gallery button")
        self.prompt = self.page.get_by_role("textbox", name="Prompt What to draw")
        self.random_seed = self.page.get_by_label("Another seed for every clip")
        self.stop = self.page.get_by_role("button", name="Stop")

    def _look_at(self, response: Any) -> None:
        if response.status >= 500:
            self.went_wrong.append(f"{response.status} {response.url}")

    def number(self, name: str) -> Any:
        """The field of a setting such as num_steps."""
        return self.page.locator(f"#setting-{name} input[type=number]")

    def set(self, name: str, value: float) -> None:
        """Type a number into the field of a setting, and leave it."""
        self.number(name).fill(str(value))
        self.number(name).press("Tab")

    def ask(self, prompt: str, *, steps: int = 4) -> None:
        """Ask for a clip, by the Enter key."""
        self.set("num_steps", steps)
        self.prompt.fill(prompt)
        self.prompt.press("Enter")

    def clip(self, prompt: str) -> Any:
        """The finished clip of that prompt on the stage."""
        return self.stage.locator("figure").filter(has=self.page.get_by_alt_text(prompt, exact=True))

    def file(self, link: Any, folder: Path) -> Path:
        """What the browser gets at an <img> or <a>, in a file of the same ending."""
        address = urljoin(self.address, link.get_attribute("src") or link.get_attribute("href"))
        answer = self.context.request.get(address)
        assert answer.ok
        path = folder / address.rpartition("/")[2]
        path.write_bytes(answer.body())
        return path


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    """visit(address, **options of Browser.new_context) opens the page as a new visitor.

    In the end no visitor's browser may have asked anything of another machine, or met an error nobody foresaw.
    """
    came: list[Visitor] = []

    def come(address: str, **options: Any) -> Visitor:
        came.append(Visitor(browser, address, **options))
        return came[-1]

    yield come
    for visitor in came:
        visitor.context.close()
        hosts = {urlsplit(url).hostname for url in visitor.asked_for if not url.startswith(("data:", "blob:"))}
        assert hosts == {urlsplit(visitor.address).hostname}
        assert visitor.went_wrong == []


class Gate:
    """Stands before the network, counts who comes, and lets pass whom it is told to; at first everybody."""

    def __init__(self) -> None:
        self.calls = 0
        self.delay_s = 0.0
        self._passes = float("inf")
        self._changed = threading.Condition()

    def shut(self, *, after: int) -> None:
        """Let so many calls pass from now on, and no more."""
        with self._changed:
            self._passes = after

    def open(self) -> None:
        with self._changed:
            self._passes = float("inf")
            self._changed.notify_all()

    def pass_through(self) -> None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._passes > 0, timeout=4 * PATIENCE_S), (
                "the test never opened the gate"
            )
            self._passes -= 1
        time.sleep(self.delay_s)

    def wait_for_calls(self, calls: int) -> None:
        """Until so many have come since the beginning."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= calls, timeout=PATIENCE_S)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The gate before every network."""
    from t2v.model import Unet3D

    gate, forward = Gate(), Unet3D.forward

    def gated(network: Any, *args: Any, **options: Any) -> Any:
        gate.pass_through()
        return forward(network, *args, **options)

    monkeypatch.setattr(Unet3D, "forward", gated)
    yield gate
    gate.open()


# What the tests of programs share: one page for a whole file of tests, which leave it as it was.


@dataclass(frozen=True)
class Page:
    """A page under test. studio: what answers behind it; checkpoint: its first model; folder: all that it reads."""

    address: str
    studio: Any
    checkpoint: Path
    folder: Path

    @property
    def own_folder(self) -> Path:
        """What it writes into."""
        return Path(self.studio.shelf.folder.parent)


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """As `serve` makes it, with a second model "checkpoints/other.safetensors" and one that is broken."""
    import t2v.page.studio
    from t2v.model.text import TextEncoder
    from t2v.page import serve_page

    shared: Any = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    encoder, folder = shared.FakeEncoder(), tmp_path_factory.mktemp("page")
    told = {"cond_dim": encoder.dim, "words": WORDS, "example_prompts": ("fireworks at night",)}
    checkpoint = shared.write_checkpoint(folder / "tiny.safetensors", **told)
    shared.write_checkpoint(folder / "checkpoints" / "other.safetensors", seed=1, **told)
    (folder / "checkpoints" / "broken.safetensors").write_bytes(b"not a checkpoint")
    studio_class, studios = t2v.page.studio.Studio, list[Any]()

    def build_studio(*parts: Any) -> Any:
        studios.append(studio_class(*parts))
        return studios[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEncoder, "load", lambda name, **options: encoder)
        patch.setattr(t2v.page.studio, "Studio", build_studio)
        folders = {"runs": folder / "runs", "checkpoints": folder / "checkpoints"}
        with serve_page(checkpoint=checkpoint, **folders) as address:
            yield Page(address, studios[-1], checkpoint, folder)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """connect(address, **options of gradio_client.Client) gives a client that asks nothing of other machines."""
    from gradio_client import Client

    folder = tmp_path_factory.mktemp("client")

    def start(address: str, **options: Any) -> Client:
        # Not closed: its thread would be waited for, and ends with the page.
        return Client(address, **{"verbose": False, "analytics_enabled": False, "download_files": folder, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))  # it leaves an empty folder there for each download
        yield start
