"""video-diffusion-pytorch 0.7.0 learns the folder that a model of ours learned, in as much computing time.

    pip install --no-deps video-diffusion-pytorch==0.7.0 einops-exts==0.0.4
    t2v train SPRITES --budget 60m --out RUN --set data.hold_out=0.1
    python benchmarks/beside_peer.py RUN SPRITES WORK --minutes 60
    t2v evaluate RUN --only likelihood --clips SPRITES
    t2v evaluate WORK/peer.safetensors --only likelihood --clips SPRITES

It sees what ours saw: the same clips but those held out, their size, their frames, one vector for each caption, of
which a tenth is dropped. Its Unet3D, GaussianDiffusion, EMA and Adam are called as its Trainer calls them. Time is that
of one core by the process's own clock; ours takes its budget by the wall's, so give it one thread on an idle core
(OMP_NUM_THREADS=1). WORK keeps its state every ten minutes: the same command goes on from there. Clips are to be
captioned and to move: it takes no stills, and no data.lengths.
"""

import argparse
import os
import time
from pathlib import Path

from learners import Peer, add_peer_settings, kept_by_peer

KEPT_EVERY_S = 600.0


def main() -> None:
    """Learn for so long, keeping what is learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path, help="a checkpoint or run folder, which says how clips are seen")
    parser.add_argument("clips", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    add_peer_settings(parser)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from t2v.checkpoint import read_header, resolve
    from t2v.cli.main import set_up_process

    set_up_process()
    asked.work.mkdir(parents=True, exist_ok=True)
    header = read_header(resolve(asked.ours))
    seen = header.recipe.data.model_dump(mode="json", exclude_defaults=True)
    peer = Peer(asked, asked.clips, seen, go_on=kept_by_peer(asked).exists())
    peer.frame_ms = header.frame_ms
    while peer.seconds < 60 * asked.minutes:
        until = min(60 * asked.minutes, peer.seconds + KEPT_EVERY_S)
        while peer.seconds < until:
            began = time.process_time()
            loss = peer.step()
            peer.seconds += time.process_time() - began
        peer.keep()
        peer.save(asked.work / "peer.safetensors")
        print(f"{peer.seconds / 60:.0f} minutes, {peer.num_steps} steps of {asked.batch}, loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
