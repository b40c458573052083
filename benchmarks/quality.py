"""How soon a model follows its captions, beside video-diffusion-pytorch 0.7.0 on the same clips and texts.

    pip install --no-deps video-diffusion-pytorch==0.7.0 einops-exts==0.0.4
    python benchmarks/quality.py WORK --minutes 120 --plot docs/quality.png --sheet docs/quality-sheet.png

Shapes of one subject from the worlds, 32x32 and 8 frames; networks start from random weights and learn in turns, a
slice of computing time each, from clips and captions of one folder, with the same text vectors, standardised, of
which a tenth is dropped. Ours is what `t2v train` does with `--recipe`, its learning rate falling to 0 over the
recipe's steps; `--plain` adds a third curve, ours with patches of one pixel and pooled text alone. Theirs is its
Unet3D, GaussianDiffusion, EMA and Adam, called as its Trainer calls them, in `--precision`. Every so often the averaged
weights of each are saved, imported, and judged: clips of prompts of combinations that were held out, drawn by our DDIM
in 20 steps, and bits per dimension of clips that were held out. Judging is not counted. As it takes long, of theirs
above all, no more clips are drawn of a side that has nothing of what the first four prompts ask for, or meets less than
a third of the first twelve.

Time is that of one core, by the process's own clock: each has one thread, as more would gain each side another part of
themselves. With `--at-once` they do not take turns but learn and are judged side by side, a core each. A side that
reached `--target` percent twice in a row learns no longer; the others go on to `--most` times the time of ours. When
the steps of ours are taken it is judged twice, by clips of other seeds the second time. WORK keeps clips, figures and
the whole state of each side, this at every judging and after ten minutes of computing: the same command goes on from
there, and with more `--minutes` goes further.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from learners import FRAME_MS, NUM_FRAMES, SIZE, Ours, Peer, add_peer_settings, figures_file
from one_subject import one_subject

CLIP_SEED, HELD_OUT_SEED = 0, 1
NUM_HELD_OUT = 4  # each takes 61 passes
# Prompts after which is seen whether the others are worth their time.
FIRST_GLANCE, GLANCE = 4, 12
KEPT_EVERY_S = 600.0  # of computing
NUM_SHOWN = 6  # prompts on the sheet
WHOLE = ("minutes", "steps", "right", "of", "bits", "mixed_bits")  # what a point says beside the attributes
LATER = ("work", "minutes", "at_once", "slice", "target", "most", "plot", "sheet")  # what may differ when a run goes on
PLAIN = {"model.patch": "1", "model.token_pooling": "false", "model.cross_attn": "false", "model.token_layers": "0"}
LABELS = {"ours": "t2v", "plain": "t2v, patch 1, pooled text", "peer": "video-diffusion-pytorch"}


@dataclass
class Side:
    """One of those that learn, in a process of its own.

    seconds: of computing so far; kept: those behind the state on disk, below 0 without one
    ended: all steps that it was to take are taken
    curve: what was judged of it, and when
    """

    name: str
    connection: Connection
    process: multiprocessing.process.BaseProcess
    seconds: float = 0.0
    steps: int = 0
    ended: bool = False
    kept: float = -1.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def ask(self, *what: Any) -> Any:
        """Have the process do something."""
        self.connection.send(what)
        try:
            return self.connection.recv()
        except EOFError:
            sys.exit(1)  # the process has said why

    def learn(self, seconds: float) -> None:
        """Train for so long; for 0 seconds only learn how far it is."""
        self.seconds, self.steps, self.ended = self.ask("learn", seconds)

    @property
    def judged_s(self) -> float:
        """How many seconds it had learned when it was judged last."""
        return 60 * self.curve[-1]["minutes"] if self.curve else 0.0

    def keep(self) -> None:
        """Have it write its state, to go on from, unless that lies there."""
        if self.kept != self.seconds:
            self.ask("keep", None)
            self.kept = self.seconds

    def reached(self, target: float) -> float | None:
        """Minutes until the target was met for the first of two times in a row; None if it was not."""
        pairs = zip(self.curve, self.curve[1:], strict=False)
        return next((one["minutes"] for one, two in pairs if min(one["right"], two["right"]) >= target), None)


def main() -> None:
    """Let both learn, and print and plot what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=60, help="of computing for each side, at most")
    parser.add_argument("--at-once", action="store_true", help="a core each, in place of turns")
    parser.add_argument("--slice", type=float, default=60, help="seconds of computing a turn")
    parser.add_argument("--first", type=float, default=4, help="minutes after which both are judged for the first time")
    parser.add_argument("--target", type=float, default=80, help="percent of prompts, all attributes right")
    parser.add_argument("--most", type=float, default=20, help="times our time that theirs may take")
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_name("quality.toml"))
    parser.add_argument("--plain", action="store_true", help="a third curve")
    add_peer_settings(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="what each draws at the end for a few prompts")
    asked = parser.parse_args()
    if asked.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install -c constraints.txt -e '.[bench]'")
    os.environ["OMP_NUM_THREADS"] = "1"
    draw_clips(asked.work / "clips", asked.clips)
    curves = curves_before(asked)
    sides = [start(name, asked) for name in LABELS if name != "plain" or asked.plain]
    for side in sides:
        side.learn(0)
        if curves:
            side.curve, side.kept = curves[side.name], side.seconds
    with ThreadPoolExecutor(len(sides) if asked.at_once else 1) as pool:
        while running := [side for side in sides if learns_on(side, sides, asked)]:
            judgings = list(pool.map(lambda side: take_turn(side, sides, asked), running))
            if any(judgings) or any(side.seconds >= side.kept + KEPT_EVERY_S for side in running):
                keep(sides, asked)
    print(told(sides, asked))
    if asked.plot:
        plot(sides, asked.plot, asked.target)
    if asked.sheet:
        draw_sheet([side.name for side in sides], asked)
    for side in sides:
        side.connection.close()
        side.process.join()


def learns_on(side: Side, sides: list[Side], asked: argparse.Namespace) -> bool:
    """Whether a side has steps to take, and time to take them in."""
    return not side.ended and side.judged_s < 60 * allowed(side, sides, asked)


def take_turn(side: Side, sides: list[Side], asked: argparse.Namespace) -> int:
    """Have a side learn for a slice, then judge it if that is due; how often it was judged."""
    due_s = 60 * min(allowed(side, sides, asked), next_mark(side, asked))
    side.learn(min(asked.slice, max(0.0, due_s - side.seconds)))
    seeds = (0, 1) if side.ended else (0,) if side.seconds >= due_s else ()
    for seed in seeds:
        judge_side(side, asked, seed)
    return len(seeds)


def allowed(side: Side, sides: list[Side], asked: argparse.Namespace) -> float:
    """Minutes that a side may learn; none once it has reached the target."""
    ours = sides[0].reached(asked.target)
    if side.reached(asked.target) is not None:
        return 0.0
    return float(asked.minutes if ours is None else asked.most * ours)


def next_mark(side: Side, asked: argparse.Namespace) -> float:
    """Minutes of computing after which a side is judged next, each mark twice the one before.

    A curve is read on a logarithmic axis, and judging theirs takes long.
    """
    mark: float = asked.first
    while 60 * mark <= side.judged_s:
        mark *= 2
    return mark


def draw_clips(folder: Path, num_clips: int) -> None:
    """Clips of one subject with their captions, as `t2v worlds --families shapes` has them, unless they are there."""
    from t2v.data.video_files import write_clip

    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    for place, clip in enumerate(islice(one_subject(CLIP_SEED, size=SIZE, num_frames=NUM_FRAMES), num_clips)):
        write_clip(unfinished / f"{place:05}.gif", clip.frames, frame_ms=FRAME_MS, metadata=None)
        (unfinished / f"{place:05}.txt").write_text("\n".join(clip.captions) + "\n", encoding="utf-8")
    unfinished.rename(folder)


def start(name: str, asked: argparse.Namespace) -> Side:
    """A process that learns when it is told to, from where it was if WORK knows."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, name, asked), daemon=True)
    process.start()
    there.close()
    return Side(name, here, process)


def serve(connection: Connection, name: str, asked: argparse.Namespace) -> None:
    """Learn for so many seconds of computing, keep the state, or write the averaged weights as a checkpoint of t2v."""
    from t2v.cli.main import set_up_process

    set_up_process()
    learner: Ours | Peer
    if name == "peer":
        seen = {"size": SIZE, "num_frames": NUM_FRAMES}
        learner = Peer(asked, asked.work / "clips", seen, go_on=figures_file(asked).exists())
    else:
        learner = Ours(asked, name, PLAIN if name == "plain" else {})
    while True:
        try:
            what, argument = connection.recv()
        except EOFError:
            return
        if what == "save":
            connection.send(learner.save(argument))
        elif what == "keep":
            connection.send(learner.keep())
        else:
            began = time.process_time()
            while time.process_time() - began < argument and not learner.ended:
                learner.step()
            learner.seconds += time.process_time() - began
            connection.send((learner.seconds, learner.num_steps, learner.ended))


def judge_side(side: Side, asked: argparse.Namespace, seed: int = 0) -> None:
    """Add a point to a side's curve. seed: added to those of the clips that are drawn"""
    side.ask("save", weights_file(side.name, asked))
    service = loaded(side.name, asked)
    right, num_drawn, verdicts = aligned(service, asked.prompts, seed)
    point = {"minutes": side.seconds / 60, "steps": side.steps, "right": right, "of": num_drawn}
    point |= bits(service) | verdicts
    side.curve.append(point)
    print(side.name, "  ".join(f"{name} {value:.4g}" for name, value in point.items()), flush=True)


def weights_file(name: str, asked: argparse.Namespace) -> Path:
    """The averaged weights of a side, as it was judged last."""
    path: Path = asked.work / f"{name}.safetensors"
    return path


def loaded(name: str, asked: argparse.Namespace) -> Any:
    """The service that draws with them."""
    from t2v.service import GenerationService

    return GenerationService.load(weights_file(name, asked), device="cpu", precision="fp32")


def aligned(service: Any, num_prompts: int, seed: int) -> tuple[float, int, dict[str, float]]:
    """Percent of the prompts that the judge finds met wholly, how many were drawn, and percent by attribute."""
    from t2v.evaluate.alignment import Judged, judged, scores

    verdicts: list[Judged] = []
    for question in asked_of_both(num_prompts):
        if len(verdicts) == FIRST_GLANCE and not any(any(verdict.verdicts.values()) for verdict in verdicts):
            break
        if len(verdicts) == GLANCE and sum(verdict.is_right for verdict in verdicts) < GLANCE / 3:
            break
        verdicts.append(judged(question, drawn(service, question, seed)))
    shares = {name: 100 * score.share for name, score in scores(verdicts).items()}
    return shares.pop("all"), len(verdicts), shares


def asked_of_both(num_prompts: int) -> list[Any]:
    """So many prompts about one subject, of combinations that were held out, evenly spread."""
    from t2v.evaluate.questions import questions

    found = [one for one in questions(0, ["unseen-combinations"], ["shapes"], None) if one.prompt.kind == "one"]
    return found[:: max(1, len(found) // num_prompts)][:num_prompts]


def drawn(service: Any, question: Any, seed: int) -> Any:
    """The clip for a prompt, uint8 f h w c. seed: added to the question's own"""
    from t2v.config import GenerationSettings

    settings = GenerationSettings(
        prompt=question.prompt.caption,
        seed=question.seed + seed,
        size=SIZE,
        sampler="ddim",
        num_steps=20,
        guidance_scale=2.0,
    )
    with closing(service.generate(settings)) as steps:
        [clip] = [clip for step in steps for clip in step.finished]
    return clip.frames


def bits(service: Any) -> dict[str, float]:
    """Bits per dimension of clips that nobody was trained on, at 50 timesteps, two of each of 25 strata."""
    from t2v.evaluate.likelihood import measure_likelihood, unmeasured
    from t2v.evaluate.real import RealClips

    known, held_out = (
        RealClips([clip.frames for clip in clips], [clip.captions[0] for clip in clips])
        for clips in (
            list(islice(one_subject(seed, size=SIZE, num_frames=NUM_FRAMES), NUM_HELD_OUT))
            for seed in (CLIP_SEED, HELD_OUT_SEED)
        )
    )
    found = unmeasured(service.diffusion, NUM_HELD_OUT)
    for _ in measure_likelihood(found, service, held_out, known, 0):
        pass
    return {"bits": found.mean_bits, "mixed_bits": found.mean_mixed_bits}


def settings_of(asked: argparse.Namespace) -> dict[str, Any]:
    """What was asked, as JSON has it."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(asked).items()}


def curves_before(asked: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """What an earlier run in WORK found, which must have been asked the same."""
    path = figures_file(asked)
    if not path.exists():
        return {}
    known, now = json.loads(path.read_text()), settings_of(asked)
    for key, before in known["asked"].items():
        if key not in LATER and before != now[key]:
            sys.exit(f"{asked.work} holds a run with --{key} {before}; go on with that, or name another folder")
    curves: dict[str, list[dict[str, float]]] = known["curves"]
    return curves


def keep(sides: list[Side], asked: argparse.Namespace) -> None:
    """Have all states written, then all figures so far."""
    from t2v.checkpoint.atomic import write_atomically

    for side in sides:
        side.keep()
    text = json.dumps({"asked": settings_of(asked), "curves": {side.name: side.curve for side in sides}}, indent=1)
    write_atomically(figures_file(asked), lambda temporary: temporary.write_text(text))


def told(sides: list[Side], asked: argparse.Namespace) -> str:
    """The row of the table."""
    times = {side.name: side.reached(asked.target) for side in sides}
    minutes = [f"{side.name} {times[side.name] or f'> {side.seconds / 60:.0f}'}" for side in sides]
    ours, theirs = times["ours"], times["peer"]
    ratio = "unknown" if ours is None else f"{'' if theirs else '> '}{(theirs or sides[-1].seconds / 60) / ours:.1f}"
    return f"minutes to {asked.target:g}%: {', '.join(minutes)}; ratio {ratio}"


def plot(sides: list[Side], path: Path, target: float) -> None:
    """Alignment, as a whole and by attribute, and bits per dimension against minutes of computing."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for side in sides:
        minutes = [point["minutes"] for point in side.curve]
        label = LABELS[side.name]
        [line] = left.plot(minutes, [point["right"] for point in side.curve], "o-", label=label)
        left.plot(minutes, [mean_share(point) for point in side.curve], "--", color=line.get_color())
        right.plot(minutes, [point["mixed_bits"] for point in side.curve], "o-", label=label)
    left.axhline(target, color="grey", linestyle=":")
    left.set(ylabel="met wholly (dashed: attributes), %", ylim=(-2, 102))
    right.set(ylabel="bits per dimension, mixed")
    for axis in (left, right):
        axis.set(xlabel="minutes of computing", xscale="log")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def mean_share(point: dict[str, float]) -> float:
    """The mean of the attributes' percentages: family, subject, colour and so on."""
    shares = [value for name, value in point.items() if name not in WHOLE]
    return sum(shares) / len(shares)


def draw_sheet(names: list[str], asked: argparse.Namespace) -> None:
    """What each draws for the same prompts and seeds, twice as large."""
    import numpy as np

    from t2v.training.samples import contact_sheet

    clips, labels = [], []
    questions = asked_of_both(NUM_SHOWN)
    for name in names:
        service = loaded(name, asked)
        clips += [drawn(service, question, 0) for question in questions]
        labels += [f"{LABELS[name]}: {question.prompt.caption}" for question in questions]
    contact_sheet(np.stack(clips).repeat(2, axis=2).repeat(2, axis=3), labels).save(asked.sheet)


if __name__ == "__main__":
    main()
