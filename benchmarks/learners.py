"""Those that quality.py and beside_peer.py have learn: `t2v train`, and video-diffusion-pytorch as its Trainer does.

Both take a step, write the averaged weights as a checkpoint of t2v, and keep all that their next step depends on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from peer import original_code

SIZE, NUM_FRAMES, NUM_TIMESTEPS = 32, 8, 1000
FRAME_MS = 125.0
DROPPED = 0.1  # of the texts
# Of their Trainer.
PEER_EMA, PEER_EMA_START, PEER_EMA_EVERY = 0.995, 2000, 10


def figures_file(asked: argparse.Namespace) -> Path:
    """Where the figures of a run are kept; there is one only if there are states to go on from."""
    path: Path = asked.work / "quality.json"
    return path


def kept_by_peer(asked: argparse.Namespace) -> Path:
    """Where theirs keeps all that its next step depends on."""
    path: Path = asked.work / "peer.pt"
    return path


def add_peer_settings(parser: argparse.ArgumentParser) -> None:
    """What is theirs to choose; of the network as the example of its own page has it."""
    parser.add_argument("--dim", type=int, default=64, help="theirs")
    parser.add_argument("--mults", type=int, nargs="+", default=[1, 2, 4, 8], help="theirs")
    parser.add_argument("--batch", type=int, default=8, help="theirs")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="theirs")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="theirs")


class Ours:
    """What `t2v train` does."""

    def __init__(self, asked: argparse.Namespace, name: str, other: dict[str, str]) -> None:
        from t2v.training.request import TrainRequest
        from t2v.training.start import open_run

        fixed = {"save_every": 10**7, "sample_every": 10**7}
        overrides = {f"train.{key}": json.dumps(value) for key, value in fixed.items()} | {
            "data.size": str(SIZE),
            "data.num_frames": str(NUM_FRAMES),
            "text.drop_prob": str(DROPPED),
        }
        run = asked.work / name
        request = TrainRequest(
            clips=asked.work / "clips",
            out=run,
            recipe=str(asked.recipe),
            fresh=not figures_file(asked).exists(),
            overrides=overrides | other,
            device="cpu",
        )
        self.training = open_run(request, lambda text: print(f"{name}: {text}", file=sys.stderr)).training

    @property
    def seconds(self) -> float:
        """Of computing; a saved step of a run has its seconds with it."""
        return self.training.seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self.training.seconds = seconds

    @property
    def num_steps(self) -> int:
        return self.training.step

    @property
    def ended(self) -> bool:
        return self.training.step == self.training.plan.num_steps

    def step(self) -> None:
        self.training.take_step()

    def save(self, path: Path) -> None:
        from t2v.checkpoint import save_checkpoint

        save_checkpoint(path, self.training.ema.network.state_dict(), self.training.header())

    def keep(self) -> None:
        self.training.save()


class Peer:
    """The original's network, process, average and Adam, called as its Trainer does, which reads no captions."""

    ended = False  # its learning rate stays as it is
    frame_ms = FRAME_MS

    def __init__(self, asked: argparse.Namespace, clips: Path, data: dict[str, Any], *, go_on: bool) -> None:
        """data: how clips are seen, as recipes say it. go_on: be where `keep` was called"""
        import copy

        import torch

        from t2v.training.clips import load_run_clips

        original = original_code()
        torch.manual_seed(0)
        self.asked, self.recipe = asked, peer_recipe(asked, data)
        self.clips = load_run_clips(clips, self.recipe, lambda _: None)
        self.read_captions()
        network = original.Unet3D(dim=asked.dim, dim_mults=tuple(asked.mults), cond_dim=self.cond_dim)
        self.diffusion = original.GaussianDiffusion(
            network,
            image_size=self.recipe.data.size,
            num_frames=self.recipe.data.num_frames,
            timesteps=NUM_TIMESTEPS,
        )
        self.average = copy.deepcopy(self.diffusion)
        self.ema = original.EMA(PEER_EMA)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=asked.learning_rate)
        self.draw = np.random.default_rng(0)
        self.num_steps, self.seconds = 0, 0.0
        if go_on:
            self.go_on()

    @property
    def kept(self) -> Path:
        return kept_by_peer(self.asked)

    def keep(self) -> None:
        """Write all that the next step depends on."""
        import torch

        from t2v.checkpoint.atomic import write_atomically

        state = {
            "num_steps": self.num_steps,
            "seconds": self.seconds,
            "draw": self.draw.bit_generator.state,
            "noise": torch.get_rng_state(),
            "diffusion": self.diffusion.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_atomically(self.kept, lambda temporary: torch.save(state, temporary))

    def go_on(self) -> None:
        """Be where `keep` was called."""
        import torch

        state = torch.load(self.kept, weights_only=True)
        self.num_steps, self.seconds = state["num_steps"], state["seconds"]
        self.diffusion.load_state_dict(state["diffusion"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.draw.bit_generator.state = state["draw"]
        torch.set_rng_state(state["noise"])

    def read_captions(self) -> None:
        """Text vectors and their mean and spread, as our network keeps them."""
        from t2v.model import Unet3D
        from t2v.training.captions import RunCaptions

        captions = RunCaptions.read(self.clips, self.recipe, lambda _: None)
        assert captions.table is not None and captions.cond_dim is not None
        self.encoder_sha256, self.cond_dim, table = captions.encoder_sha256, captions.cond_dim, captions.table
        ours = Unet3D(8, cond_dim=self.cond_dim, dim_mults=(1,))
        ours.set_text_statistics(table.pooled)
        self.statistics = {"text_mean": ours.text_mean, "text_std": ours.text_std}
        self.pooled = (table.pooled - ours.text_mean) / ours.text_std
        self.rows = [[table.index(text) for text in record.captions] for record in self.clips.records]

    def step(self) -> float:
        """Learn from a batch; its loss."""
        import torch

        chosen = self.draw.integers(len(self.rows), size=self.asked.batch)
        frames = np.stack([self.clips.frames[clip] for clip in chosen])
        x = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 255
        text = self.pooled[[self.draw.choice(self.rows[clip]) for clip in chosen]]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.asked.precision == "bf16"):
            loss = self.diffusion(x, cond=text, null_cond_prob=DROPPED)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.num_steps % PEER_EMA_EVERY == 0:
            if self.num_steps < PEER_EMA_START:
                self.average.load_state_dict(self.diffusion.state_dict())
            else:
                self.ema.update_model_average(self.average, self.diffusion)
        self.num_steps += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        import t2v
        from t2v.checkpoint import Header, save_checkpoint
        from t2v.model.lucidrains import unet_weights

        weights = unet_weights(self.average.denoise_fn.state_dict()).state | self.statistics
        header = Header(
            t2v_version=t2v.__version__,
            recipe=self.recipe,
            cond_dim=self.cond_dim,
            encoder_sha256=self.encoder_sha256,
            frame_ms=self.frame_ms,
            step=self.num_steps,
            num_clips=len(self.rows),
        )
        save_checkpoint(path, weights, header)


def peer_recipe(asked: argparse.Namespace, data: dict[str, Any]) -> Any:
    """The original's settings in our words. data: how clips are seen, as a recipe says it"""
    from t2v.reading import recipe_from_mapping

    return recipe_from_mapping(
        {
            "data": data,
            "model": {"dim": asked.dim, "dim_mults": asked.mults},
            "diffusion": {"num_timesteps": NUM_TIMESTEPS, "prediction": "eps", "loss": "l1", "schedule": "cosine"},
        }
    )
