"""GIFs; what their blocks mean is in `t2v.data.gif`."""

from collections.abc import Collection, Iterator

import numpy as np

from t2v.data import gif
from t2v.data.limits import Limits
from t2v.data.readers.opened import Opened


def open_gif(data: bytes, limits: Limits) -> Opened:
    """Raises ClipError like `gif.parse`, and for a clip beyond the limits."""
    file = gif.parse(data, max_frames=limits.max_frames)
    limits.check_size(file.width, file.height)
    for frame in file.frames:
        if frame.width and frame.height:
            limits.check_size(frame.width, frame.height)

    def canvases(wanted: Collection[int]) -> Iterator[np.ndarray]:
        return (canvas for number, canvas in enumerate(gif.canvases(file)) if number in wanted)

    return Opened(
        format="gif",
        width=file.width,
        height=file.height,
        frame_ms=np.array([frame.delay_ms for frame in file.frames], dtype=np.float64),
        work=sum(file.width * file.height + frame.width * frame.height for frame in file.frames),
        canvases=canvases,
    )
