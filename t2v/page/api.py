"""What programs may ask of the page: endpoints by name, for gradio_client and plain HTTP."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api

from t2v.config import GenerationSettings
from t2v.errors import CheckpointError, ClipError, T2VError
from t2v.page.controls import settings_of
from t2v.page.drawing import Moment, draw
from t2v.page.shelf import MEDIA_TYPES
from t2v.page.studio import Studio, in_words
from t2v.service import check_target

FormatName = Literal["gif", "mp4", "webp"]
Answer = tuple[list[FileData], dict[str, Any]]


def add_endpoints(studio: Studio, *, concurrency_id: str) -> None:
    """Add `/generate` and `/checkpoints` to the page that is being built."""
    api(
        _generate(studio),
        api_name="generate",
        api_description="Draw clips. Returns their files, and a report with their settings and what to know of them.",
        concurrency_id=concurrency_id,
        concurrency_limit=1,
    )
    api(
        _checkpoints(studio),
        api_name="checkpoints",
        api_description="The checkpoints that /generate can use, the default first.",
        queue=False,
    )


def _generate(studio: Studio) -> Any:
    """A function with a named and typed parameter for each generation setting, as the page's API states them."""
    fields = GenerationSettings.model_fields
    kinds: dict[str, Any] = {"request": gr.Request} | {name: field.annotation for name, field in fields.items()}
    kinds |= {"checkpoint": str, "file_format": FormatName}
    defaults = {name: field.default for name, field in fields.items()} | {"checkpoint": "", "file_format": "gif"}
    del defaults["prompt"]

    def generate(*values: Any) -> Iterator[Any]:
        given = dict(zip(kinds, values, strict=True))
        request, name, ending = given.pop("request"), given.pop("checkpoint"), given.pop("file_format")
        with in_words(), studio.stops.watched(str(request.session_hash)) as is_stopped:
            if str(ending) not in MEDIA_TYPES:
                raise ClipError(f"file_format must be one of {', '.join(MEDIA_TYPES)}, not {ending!r}")
            settings = settings_of(given)
            service = studio.models.service(str(name) if name else _first(studio))
            used = service.resolve(settings)
            check_target(studio.shelf.folder / f"clip.{ending}", fps=used.fps)
            hints = service.hints(used)
            for moment in draw(service, used, studio.shelf, is_stopped=is_stopped):
                yield _files(studio, moment, ending), _report(moment, hints)

    generate.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults.get(name, inspect.Parameter.empty),
                annotation=kind,
            )
            for name, kind in kinds.items()
        ],
        return_annotation=Answer,
    )
    generate.__annotations__ = kinds | {"return": Answer}
    return generate


def _checkpoints(studio: Studio) -> Any:
    def checkpoints() -> list[dict[str, Any]]:
        return [_description(studio, name) for name in studio.models.names()]

    return checkpoints


def _first(studio: Studio) -> str:
    names = studio.models.names()
    if not names:
        raise CheckpointError("there is no checkpoint here; train one with `t2v train ./gifs`")
    return names[0]


def _description(studio: Studio, name: str) -> dict[str, Any]:
    try:
        header = studio.models.header(name)
    except T2VError as error:
        return {"name": name, "error": str(error)}
    data = header.recipe.data
    return {
        "name": name,
        "num_frames": data.num_frames,
        "size": header.size,
        "steps_trained": header.step,
        "num_words": len(header.words),
        "example_prompts": list(header.example_prompts),
    }


def _files(studio: Studio, moment: Moment, ending: str) -> list[dict[str, Any]]:
    """Finished clips as files that gradio_client fetches."""
    return [
        {
            "path": str(studio.shelf.file(kept, ending)),
            "orig_name": kept.download_name(ending),
            "meta": {"_type": "gradio.FileData"},
        }
        for kept in moment.finished
    ]


def _report(moment: Moment, hints: Sequence[str]) -> dict[str, Any]:
    clips = [
        kept.clip.settings.model_dump(mode="json") | {"clip": kept.clip.index, "seconds": round(kept.clip.seconds, 3)}
        for kept in moment.finished
    ]
    return {"done": moment.done, "total": moment.total, "clips": clips, "notes": list(hints)}
