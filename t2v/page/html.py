"""Pieces of the page that no ready-made component shows well: clips, progress, what a model says of itself.

Everything from outside is escaped here.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from t2v.checkpoint import Header
from t2v.data.video_files import encode_clip
from t2v.page.drawing import Moment
from t2v.page.shelf import MEDIA_TYPES, KeptClip

MAX_PREVIEWS = 4
UNDER_WAY = "t2v-under-way"


def preview(moment: Moment, prompt: str) -> str:
    """The clips at work, moving, as they look by now."""
    assert moment.preview is not None
    images = [
        f'<img src="{_data_address(frames, moment.frame_ms)}" alt="unfinished: {escape(prompt)}">'
        for frames in moment.preview[:MAX_PREVIEWS]
    ]
    return f'<div class="t2v-stage t2v-unfinished">{finished_clips(moment.finished)}{"".join(images)}</div>'


def stage(clips: Sequence[KeptClip]) -> str:
    """Finished clips, each with its seed, the seconds it took and its files."""
    return f'<div class="t2v-stage">{finished_clips(clips)}</div>'


def finished_clips(clips: Iterable[KeptClip]) -> str:
    return "".join(_figure(kept) for kept in clips)


def _figure(kept: KeptClip) -> str:
    clip = kept.clip
    links = " ".join(
        f'<a href="{kept.address(ending)}" download="{escape(kept.download_name(ending))}" '
        f'aria-label="Download as {ending.upper()}">{ending.upper()}</a>'
        for ending in MEDIA_TYPES
    )
    return (
        f'<figure><img src="{kept.address("gif")}" alt="{escape(clip.settings.prompt) or "a clip"}">'
        f"<figcaption><span>seed {clip.seed}</span> <span>{clip.seconds:.1f} s</span> "
        f'<span class="t2v-files">{links}</span></figcaption></figure>'
    )


def empty_stage(text: str) -> str:
    """Where clips will be, before there is one."""
    return f'<div class="t2v-stage t2v-empty"><p>{escape(text)}</p></div>'


def progress(moment: Moment) -> str:
    """A bar with the step and the time left."""
    left = "" if moment.seconds_left is None else f", {duration(moment.seconds_left)} left"
    words = f"step {moment.done} of {moment.total}{left}"
    return (
        f'<div class="t2v-progress {UNDER_WAY}" role="status"><progress max="{moment.total}" value="{moment.done}" '
        f'aria-label="Denoising steps done"></progress><span>{words}</span></div>'
    )


def said(text: str, *, kind: str = "note") -> str:
    """A sentence to the visitor. kind: note, error, or under-way for what will be replaced by another one."""
    return f'<p class="t2v-said t2v-{kind}" role="{"alert" if kind == "error" else "status"}">{escape(text)}</p>'


def is_under_way(status: str) -> bool:
    """Whether a status tells of work that is not over."""
    return UNDER_WAY in status


def gallery(clips: Sequence[KeptClip]) -> str:
    """What this visit made, newest first; each a button that brings its settings back."""
    if not clips:
        return '<p class="t2v-hint">The clips of this visit gather here. A click on one brings its settings back.</p>'
    buttons = [
        f'<button type="button" data-clip="{kept.id}" title="{escape(_title(kept))}" '
        f'aria-label="Bring back the settings of: {escape(_title(kept))}">'
        f'<img src="{kept.address("gif")}" alt="" loading="lazy"></button>'
        for kept in reversed(clips)
    ]
    return f'<div class="t2v-gallery">{"".join(buttons)}</div>'


def about_model(header: Header) -> str:
    """One line about the model at hand."""
    data = header.recipe.data
    words = f"knows {len(header.words)} words" if header.words else "trained without captions"
    line = (
        f"{data.num_frames} frames of {header.size}x{header.size} pixels, "
        f"trained on {header.num_clips:,} clips for {header.step:,} steps, {words}"
    )
    return f'<p class="t2v-hint">{escape(line)}</p>'


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def _title(kept: KeptClip) -> str:
    return f"{kept.clip.settings.prompt or 'a clip'}, seed {kept.clip.seed}"


def _data_address(frames: np.ndarray, frame_ms: float) -> str:
    content = encode_clip(frames, ".webp", frame_ms=frame_ms)
    return "data:image/webp;base64," + base64.b64encode(content).decode()
