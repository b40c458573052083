"""Starting the page: on this machine only, with a folder of its own, telling nobody."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v.errors import SettingsError

if TYPE_CHECKING:
    from t2v.page.shelf import Shelf

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEEP_S = 2 * 3600.0
SWEEP_EVERY_S = 60
MAX_WAITING = 16
MAX_UPLOAD = "20mb"
MAX_SESSIONS = 500  # gradio keeps 0.2 MB for each visitor until it has more than this, by default 10,000
# Gradio looks 1000 times a second for requests that wait, and 100 times for progress bars, of which this page has none.
# That took 8% of a core from an idle page, and the interpreter from the thread that draws.
LINE_EVERY_S = 0.02
PROGRESS_BARS_EVERY_S = 0.5
# Those of the visitor's machine: gradio's own would be fetched from elsewhere.
FONT = ("ui-sans-serif", "system-ui", "sans-serif")
FONT_MONO = ("ui-monospace", "monospace")
# What explains a control is grey by default, too light to be read on white.
READABLE = {
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
}
RUNS = Path("runs")
CHECKPOINTS = Path("checkpoints")


@contextmanager
def serve_page(
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: str | None = None,
    checkpoint: Path | None = None,
    runs: Path = RUNS,
    checkpoints: Path = CHECKPOINTS,
    device: str = "auto",
    precision: str = "fp32",
    max_waiting: int = MAX_WAITING,
    keep_s: float = KEEP_S,
) -> Iterator[str]:
    """Serve the page for the time of the context; gives its address.

    port: None takes the first free one from 7860 on
    auth: "user:password" that a browser then asks for; a host that other machines can reach needs it
    checkpoint: what is offered first and loaded at once; None is the model in the box
    max_waiting: requests that may wait for their turn; more are refused
    keep_s: seconds after which a clip is removed
    Raises SettingsError, or CheckpointError for a checkpoint that cannot be opened.
    """
    login = None if auth is None else _login(auth)
    if host not in LOOPBACK and login is None:
        raise SettingsError(f"other machines can reach {host}: set a login with --auth user:password, or use 127.0.0.1")
    _check_host(host)
    with _own_folder() as folder:
        import gradio as gr
        from starlette.middleware import Middleware

        from t2v.page.addresses import NoPassingOn
        from t2v.page.layout import DROP_ANYWHERE, build_page
        from t2v.page.models import Models
        from t2v.page.shelf import Shelf
        from t2v.page.studio import Studio

        models = Models(runs=runs, checkpoints=checkpoints, chosen=checkpoint, device=device, precision=precision)
        if names := models.names():
            models.service(names[0]).warm_up()
        shelf = Shelf(folder / "clips", keep_s=keep_s)
        page = build_page(Studio(models, shelf), runs=runs, keep_s=keep_s)
        page.queue(max_size=max_waiting, default_concurrency_limit=1)
        # There is no option for either; another version of gradio may not have them.
        page._queue.sleep_when_free = LINE_EVERY_S
        page._queue.progress_update_sleep_when_free = PROGRESS_BARS_EVERY_S
        try:
            _, address, _ = page.launch(
                server_name=f"[{host}]" if ":" in host else host,  # of IPv6, as addresses are written
                server_port=port,
                auth=login,
                share=False,
                inline=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                max_file_size=MAX_UPLOAD,
                footer_links=["api", "settings"],
                run_history=False,
                enable_monitoring=False,
                theme=gr.themes.Default(primary_hue="orange", font=FONT, font_mono=FONT_MONO).set(**READABLE),
                css_paths=Path(__file__).with_name("style.css"),
                js=DROP_ANYWHERE,
                state_session_capacity=MAX_SESSIONS,
                app_kwargs={
                    "routes": [shelf.route()],
                    "middleware": [Middleware(NoPassingOn)],
                    "lifespan": _sweeping(shelf),
                },
            )
        except OSError as error:
            raise SettingsError(f"the page cannot be served at port {port}: {error}") from None
        try:
            yield address
        finally:
            page.close(verbose=False)


def _check_host(host: str) -> None:
    """Raise SettingsError unless this machine can be reached by that name or address."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # of a name that cannot be one
        why = getattr(error, "strerror", None) or "it is no name of a machine"
        raise SettingsError(
            f"the page cannot be served at {host}: {why}; --host takes an address of this machine, "
            "such as 127.0.0.1, or 0.0.0.0 for all of them"
        ) from None


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for all that the page and gradio write, gone in the end; gradio is told of it by the environment."""
    folder = Path(tempfile.mkdtemp(prefix="t2v-page-"))
    told = {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),  # else a folder where the person stands, which is served
        "GRADIO_ANALYTICS_ENABLED": "False",
        # Gradio counts what is asked of it, and by default takes stock of the last 10,000 after every answer.
        "GRADIO_ANALYTICS_MAX_EVENTS": "100",
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ |= told
    try:
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def _sweeping(shelf: "Shelf") -> Any:
    """For the time the server runs, clips leave the shelf even when nobody makes new ones."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP_EVERY_S)
                shelf.sweep()

        task = asyncio.create_task(sweep())
        try:
            yield
        finally:
            task.cancel()

    return lifespan


def _login(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise SettingsError("--auth takes user:password")
    return user, password
