"""`t2v pack`: a folder of GIFs as shards, for data that is larger than memory or disk."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer, progress_bar, say


def pack(
    gifs: Annotated[Path, typer.Argument(help="Folder of GIFs, at any depth; captions beside them as .txt.")],
    shards: Annotated[Path, typer.Argument(help="Folder for the shards, empty or not there yet.")],
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="Size of a shard in MB, at most.")] = 256,
) -> None:
    """Write a folder of GIFs and their captions as WebDataset shards.

    Every clip is read as training would, and those that cannot be are left out and named; no file is changed. Equal
    folders give equal shards. Train on them with t2v train SHARDS.
    """
    from t2v.data.folder import count
    from t2v.data.pack import pack_folder

    with progress_bar(unit="files") as bar:
        task = bar.add_task("reading", total=None, note="")
        packed = pack_folder(
            gifs,
            shards,
            max_bytes=shard_mb << 20,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for item in packed.scan.left_out:
        say(f"left out: {item.key} {item.reason}")
    for warning in packed.scan.warnings:
        say(f"warning: {warning}")
    say(f"{count(len(packed.scan.clips), 'clip')} in {count(len(packed.shards), 'shard')}; train on them with:")
    answer(f"t2v train {shlex.quote(str(shards))}")
