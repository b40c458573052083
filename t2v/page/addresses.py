"""No address is fetched for a visitor. Gradio would do that for whoever sends one in place of a file."""

import re
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

REFUSAL = "An address is not fetched; upload the file itself."
FETCHED = re.compile(r"/file[=/]https?://")


def refuse_addresses(page: gr.Blocks) -> None:
    """Let every input of the page, public or private, take files from the visitor's disk only."""
    read = page.preprocess_data

    async def read_inputs(block_fn: Any, inputs: list[Any], *rest: Any, **options: Any) -> Any:
        if _holds_address(inputs):
            raise gr.Error(REFUSAL, print_exception=False)
        return await read(block_fn, inputs, *rest, **options)

    # Not on the components: each visitor gets new ones as they are updated.
    page.preprocess_data = read_inputs  # type: ignore[method-assign]


def _holds_address(value: Any) -> bool:
    if isinstance(value, dict):
        return is_http_url_like(value.get("path")) or any(_holds_address(part) for part in value.values())
    return isinstance(value, list) and any(_holds_address(part) for part in value)


class NoPassingOn:
    """Middleware that answers 403 where gradio would fetch an address and pass on what it finds there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and FETCHED.search(scope["path"]):
            await PlainTextResponse(REFUSAL, status_code=403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)
