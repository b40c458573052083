"""An evaluation from its request to its report, one measure after the other."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from t2v.evaluate.alignment import MIN_FRAMES, MIN_SIZE, Alignment, Judged, judged
from t2v.evaluate.clock import Clock
from t2v.evaluate.drawing import Drawer, DrawnClip, Wish
from t2v.evaluate.likelihood import Likelihood, measure_likelihood, unmeasured
from t2v.evaluate.likeness import MIN_FOR_DISTANCES, Likeness, likeness
from t2v.evaluate.questions import clip_seed, questions
from t2v.evaluate.real import RealClips, RealData, read_real
from t2v.evaluate.report import Report, about
from t2v.evaluate.request import EvaluationRequest
from t2v.service import GenerationService


class Progress(NamedTuple):
    """How far a part of the work is. total: 0 where it is not known; note: what is known so far."""

    part: str
    done: int
    total: int
    note: str = ""


class Evaluation:
    """Takes the measures of a request; to be used in a `with`.

    cache: where drawn clips are kept from one start to the next; None keeps them in memory
    say: told what a person should know meanwhile
    """

    def __init__(
        self, service: GenerationService, request: EvaluationRequest, *, cache: Path | None, say: Callable[[str], None]
    ) -> None:
        self.service, self.request, self._cache, self._say = service, request, cache, say
        self._drawer = Drawer(service, request.settings, cache=cache, say=say)
        self._stack = ExitStack()
        self._alignment: Alignment | None = None
        self._likelihood: Likelihood | None = None
        self._real: RealData | None = None
        self._drawn: list[DrawnClip] = []
        self._notes: list[str] = []
        self._finished = False
        self._began = time.monotonic()

    def __enter__(self) -> "Evaluation":
        self._stack.enter_context(self._drawer)
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def steps(self) -> Generator[Progress, None, None]:
        """Take the measures, yielding often; whatever moment the caller stops at, `report` has what was done."""
        for hint in self.service.hints(self._drawer.used.model_copy(update={"prompt": ""})):
            self._note(hint)
        if {"likelihood", "likeness"}.intersection(self.request.measures):
            # First of all: whatever is wrong with them is to be known before an hour is spent.
            yield from self._read_real()
        take = {"alignment": self._align, "likelihood": self._judge_probability, "likeness": self._compare}
        for measure in self.request.measures:
            yield from take[measure]()
        self._finished = True

    def report(self) -> Report:
        """What is known so far."""
        return Report(
            about=about(self.service, self.request, self._drawer.used),
            seconds=time.monotonic() - self._began,
            seconds_per_clip=median(self._drawer.seconds) if self._drawer.seconds else None,
            is_partial=not self._finished,
            notes=tuple(self._notes),
            alignment=self._alignment,
            likelihood=self._likelihood,
            likeness=self._likeness(),
            real=self._real,
        )

    def frames_of(self, one: Judged) -> np.ndarray:
        """A judged clip, uint8 f h w c."""
        return self._drawer.kept(Wish(one.question.prompt.caption, one.question.seed)).frames

    def _align(self) -> Iterator[Progress]:
        if reason := self._cannot_be_judged():
            self._note(f"alignment is not measured: {reason}")
            return
        request, template = self.request, self.service.header.recipe.text.template
        if template:
            self._note(f"the captions of training read {template!r}, and prompts are asked without it")
        asked = questions(request.seed, request.splits, request.families, request.num_prompts)
        self._alignment = Alignment(len(asked))
        num_right = 0
        clips = self._drawer.draw([Wish(question.prompt.caption, question.seed) for question in asked])
        for clip in clips:
            done = len(self._alignment.judged)
            if clip is not None:
                self._alignment.judged.append(judged(asked[done], clip.frames))
                num_right += self._alignment.judged[-1].is_right
                done += 1
            yield Progress("alignment", done, len(asked), f"{num_right / done:.0%} right" if done else "")

    def _judge_probability(self) -> Iterator[Progress]:
        assert self._real is not None
        clips, known, seed = self._real.held_out, self._real.known, self.request.seed
        self._likelihood = unmeasured(self.service.diffusion, len(clips))
        clock = Clock(len(clips), "to find the likelihood of", self._say)
        for number in measure_likelihood(self._likelihood, self.service, clips, known, seed):
            clock.count(number)
            bits = self._likelihood.mean_bits
            yield Progress("likelihood", self._likelihood.num_clips, len(clips), f"{bits:.4g} bits/dim")

    def _compare(self) -> Iterator[Progress]:
        assert self._real is not None
        real = self._captioned(self._real)
        if len(real.held_out) < len(self._real.held_out):
            there = f"{len(real.held_out)} of {len(self._real.held_out)}"
            self._note(f"likeness looks at the {there} real clips that have a caption")
        places = range(len(real.held_out))
        wishes = [
            Wish(real.held_out.captions[place], clip_seed(self.request.seed, "likeness", place)) for place in places
        ]
        for clip in self._drawer.draw(wishes):
            if clip is not None:
                self._drawn.append(clip)
            yield Progress("likeness", len(self._drawn), len(wishes))

    def _likeness(self) -> Likeness | None:
        """What the clips drawn so far tell."""
        if self._real is None or len(self._drawn) < MIN_FOR_DISTANCES:
            return None
        return likeness(
            [clip.frames for clip in self._drawn],
            self._captioned(self._real),
            mirrored=self.service.header.recipe.data.flip_prob > 0,
        )

    def _read_real(self) -> Iterator[Progress]:
        for item in read_real(self.service, self.request, self._drawer.used, cache=self._cache, say=self._say):
            if isinstance(item, RealData):
                self._real = item
            else:
                yield Progress("real clips", item, 0)

    def _captioned(self, real: RealData) -> RealData:
        """The clips that a model with text can be asked for."""
        held_out = real.held_out
        if self.service.header.cond_dim is None:
            return replace(real, held_out=RealClips(held_out.frames, [""] * len(held_out)))
        said = [place for place, caption in enumerate(held_out.captions) if caption.strip()]
        return replace(
            real,
            held_out=RealClips([held_out.frames[at] for at in said], [held_out.captions[at] for at in said]),
        )

    def _cannot_be_judged(self) -> str | None:
        """Why the judge has nothing to say of this model's clips; None where it has."""
        header, used = self.service.header, self._drawer.used
        assert used.size is not None and used.num_frames is not None
        if header.cond_dim is None:
            return "this model was trained without captions"
        if header.recipe.data.channels != 3:
            return f"the judge reads colour, and this model has {header.recipe.data.channels} channels"
        if used.size < MIN_SIZE or used.num_frames < MIN_FRAMES:
            given = f"{used.num_frames} of {used.size}"
            return f"the judge reads at least {MIN_FRAMES} frames of {MIN_SIZE} pixels, not {given}"
        return None

    def _note(self, sentence: str) -> None:
        self._notes.append(sentence)
        self._say(f"note: {sentence}")
