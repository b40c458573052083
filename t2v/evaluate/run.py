"""An evaluation from its request to its report, one measure after the other."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from t2v.config import MeasureName
from t2v.errors import SettingsError
from t2v.evaluate.alignment import MIN_FRAMES, MIN_SIZE, Alignment, judged
from t2v.evaluate.drawing import Drawer, Wish
from t2v.evaluate.questions import questions
from t2v.evaluate.report import Report, about
from t2v.evaluate.request import EvaluationRequest
from t2v.service import GenerationService


class Progress(NamedTuple):
    """How far a measure is. note: what is known so far."""

    measure: MeasureName
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
        self.service, self.request, self._say = service, request, say
        self._drawer = Drawer(service, request.settings, cache=cache, say=say)
        self._stack = ExitStack()
        self._alignment: Alignment | None = None
        self._notes: list[str] = []
        self._finished = False
        self._began = time.monotonic()

    def __enter__(self) -> "Evaluation":
        self._stack.enter_context(self._drawer)
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def steps(self) -> Iterator[Progress]:
        """Take the measures, yielding often; whatever moment the caller stops at, `report` has what was done."""
        for hint in self.service.hints(self._drawer.used.model_copy(update={"prompt": ""})):
            self._note(hint)
        take = {"alignment": self._align}
        for measure in self.request.measures:
            yield from take[measure]()
        self._finished = True

    def report(self) -> Report:
        """What is known so far."""
        return Report(
            about=about(self.service, self.request, self._drawer.used),
            seconds=time.monotonic() - self._began,
            is_partial=not self._finished,
            notes=tuple(self._notes),
            alignment=self._alignment,
        )

    def _align(self) -> Iterator[Progress]:
        if reason := self._cannot_be_judged():
            self._note(f"alignment is not measured: {reason}")
            return
        request = self.request
        asked = questions(request.seed, request.splits, request.families, request.num_prompts)
        if not asked:
            raise SettingsError("there is no prompt of these families and splits")
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
