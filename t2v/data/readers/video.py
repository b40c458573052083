"""MP4, MOV, WebM, MKV and AVI by way of libav: times from the packets, then frames once, in order of display."""

import io
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from PIL import Image

from t2v.data.limits import Limits
from t2v.data.readers.containers import check_boxes, check_riff, check_segment
from t2v.data.readers.opened import BROWSER_MS, Opened, Retimed
from t2v.errors import ClipError

if TYPE_CHECKING:  # libav takes a tenth of a second to load, and many folders hold no video
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VideoName = Literal["mp4", "mov", "webm", "mkv", "avi"]

# libav knows hundreds of decoders, few of which anybody has tried to break. These are what such files are made of.
DECODERS = frozenset(
    """h264 hevc libdav1d av1 vp8 vp9 libvpx libvpx-vp9 mpeg4 msmpeg4v2 msmpeg4 h263 flv mpeg1video mpeg2video theora
    wmv1 wmv2 mjpeg prores dnxhd cfhd ffv1 huffyuv ffvhuff utvideo magicyuv qtrle png rawvideo dvvideo cinepak
    svq3""".split()  # noqa: SIM905 a list of words reads better so
)
# Decoders that see the transparency beside the picture, which the usual ones pass over.
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Of a video that does not name its colours Chromium takes those of BT.709 from this height on, save in codecs that
# could well have named them; below, and in those, those of BT.601.
HD_HEIGHT = 720
CODECS_OF_601 = ("vp9", "libdav1d", "av1")
UNSPECIFIED = 2  # colour matrix
BT709, BT601 = 1, 5  # as swscale numbers them


@dataclass(frozen=True)
class _Demuxer:
    """What libav calls it, and our look at what it forgives."""

    name: str
    check: Callable[[bytes], None]


DEMUXERS: dict[VideoName, _Demuxer] = {
    "mp4": _Demuxer("mov", check_boxes),
    "mov": _Demuxer("mov", check_boxes),
    "webm": _Demuxer("matroska", check_segment),
    "mkv": _Demuxer("matroska", check_segment),
    "avi": _Demuxer("avi", check_riff),
}


def open_video(data: bytes, limits: Limits, *, name: VideoName) -> Opened:
    """Read which frames a video has and when each is shown, and unpack the first, which tells how it is turned.

    Edit lists, rotation and pixels that are not square are honoured; of several pictures the main one is taken, sound
    is passed over. More than 8 bits are rounded to 8, and brightness beyond the usual (HDR) is not mapped.
    Raises ClipError for damage that shows so far, and for a clip beyond the limits.
    """
    DEMUXERS[name].check(data)
    video = _Video(data, name, limits)
    times = video.times()
    frame = video.first_frame()
    return video.opened(times, frame)


@dataclass(frozen=True)
class _Times:
    """When frames are shown, in order of display, in ticks of `unit` seconds; the last is shown for `last` ticks."""

    starts: list[int]
    last: int
    unit: Fraction

    @property
    def frame_ms(self) -> np.ndarray:
        ends = [*self.starts[1:], self.starts[-1] + self.last]
        ticks = [end - start for start, end in zip(self.starts, ends, strict=True)]
        return np.array([float(1000 * self.unit * count) for count in ticks], dtype=np.float64)


@dataclass(frozen=True)
class _Look:
    """How a decoded frame becomes what is shown: with the colours of this matrix, or those it names, turned by quarters
    against the clock, in this size."""

    matrix: int | None
    turns: int
    width: int
    height: int


@dataclass(frozen=True)
class _Video:
    data: bytes
    name: VideoName
    limits: Limits

    def opened(self, times: _Times, look: _Look) -> Opened:
        """Raises ClipError for a clip beyond the limits, or without time."""
        frame_ms = times.frame_ms
        if not frame_ms.sum() > 0:
            frame_ms = np.full(len(times.starts), BROWSER_MS)
        return Opened(
            format=self.name,
            width=look.width,
            height=look.height,
            frame_ms=frame_ms,
            work=len(times.starts) * look.width * look.height,
            canvases=lambda wanted: self._canvases(times, look, wanted),
        )

    def times(self) -> _Times:
        """The times that the packets promise, without unpacking one."""
        with self._open() as (container, stream):
            starts, ends = [], {}
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise ClipError("is damaged within its frames")
                if packet.size and packet.pts is not None and not packet.is_discard:
                    starts.append(packet.pts)
                    ends[packet.pts] = packet.duration or 0
                    self.limits.check_frames(len(starts))
            if not starts:
                raise ClipError("holds no frames")
            starts.sort()
            last = ends[starts[-1]] or (starts[-1] - starts[-2] if len(starts) > 1 else 0)
            return _Times(starts, last, stream.time_base or Fraction(1, 1000))

    def first_frame(self) -> _Look:
        with self._frames() as (stream, frames):
            frame = next(frames, None)
            if frame is None:
                raise ClipError("holds no frames")
            shape = stream.sample_aspect_ratio or Fraction(1)
            width, height = _square_pixels(frame.width, frame.height, shape)
            turns = round(frame.rotation / 90) % 4
            if turns % 2:
                width, height = height, width
            self.limits.check_size(width, height)
            return _Look(_matrix(frame, stream.codec_context.name), turns, width, height)

    def _canvases(self, times: _Times, look: _Look, wanted: Collection[int]) -> Iterator[np.ndarray]:
        starts = []
        with self._frames() as (_, frames):
            for number, frame in enumerate(frames):
                if frame.pts is None:
                    raise ClipError("does not say when its frames are shown")
                starts.append(frame.pts)
                if number in wanted:
                    yield _canvas(frame, look)
        # A decoder gives frames in order of display, also where the times of the packets are in another.
        starts.sort()
        if starts != times.starts:
            if not starts:
                raise ClipError("holds no frames")
            raise Retimed(self.opened(_Times(starts, times.last, times.unit), look))

    @contextmanager
    def _frames(self) -> Iterator[tuple["VideoStream", Iterator["VideoFrame"]]]:
        """The frames in order of display."""
        with self._open() as (container, stream):
            yield stream, self._decoded(container, stream)

    def _decoded(self, container: "InputContainer", stream: "VideoStream") -> Iterator["VideoFrame"]:
        decoder = _decoder(stream)
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                self.limits.check_size(frame.width, frame.height)
                if frame.is_corrupt:
                    raise ClipError("is damaged within its frames")
                yield frame

    @contextmanager
    def _open(self) -> Iterator[tuple["InputContainer", "VideoStream"]]:
        """The file and its main picture; whatever libav raises meanwhile becomes a ClipError."""
        import av
        from av.container import InputContainer
        from av.video.stream import VideoStream

        options = {
            "codec_whitelist": ",".join(sorted(DECODERS)),
            "max_pixels": str(self.limits.max_frame_pixels),
            "threads": "1",  # files are what is read in parallel
            "err_detect": "explode",  # damaged frames would come painted over
        }
        try:
            with av.open(
                io.BytesIO(self.data), format=DEMUXERS[self.name].name, options=options, metadata_errors="replace"
            ) as container:
                assert isinstance(container, InputContainer)
                stream = container.streams.best("video")
                if not isinstance(stream, VideoStream):
                    raise ClipError("holds no video")
                if stream.codec_context is None:
                    raise ClipError("is in a codec that is not read here")
                if stream.codec_context.name not in DECODERS:
                    raise ClipError(f"is in the codec {stream.codec_context.name}, which is not read here")
                if stream.codec_context.width and stream.codec_context.height:  # else its first frame tells
                    self.limits.check_size(stream.codec_context.width, stream.codec_context.height)
                yield container, stream
        except (av.FFmpegError, OverflowError, ZeroDivisionError, UnicodeError, MemoryError, ValueError):
            raise ClipError("is a damaged video") from None


def _decoder(stream: "VideoStream") -> "VideoCodecContext":
    """The stream's own decoder, or one that sees transparency where the stream says that it has some."""
    from av.codec import CodecContext

    other = WITH_ALPHA.get(stream.codec_context.name)
    if other is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = cast("VideoCodecContext", CodecContext.create(other, "r"))
    decoder.thread_count = 1
    return decoder


def _square_pixels(width: int, height: int, shape: Fraction) -> tuple[int, int]:
    """Size of a picture whose pixels are `shape` times as wide as high, as players show it: never smaller."""
    if not Fraction(1, 16) < shape < 16:
        return width, height
    return (round(width * shape), height) if shape > 1 else (width, round(height / shape))


def _matrix(frame: "VideoFrame", codec: str) -> int | None:
    """The colour matrix to take for a video that names none; None where it does."""
    if frame.colorspace != UNSPECIFIED:
        return None
    return BT709 if frame.height >= HD_HEIGHT and codec not in CODECS_OF_601 else BT601


def _canvas(frame: "VideoFrame", look: _Look) -> np.ndarray:
    """RGBA of one frame as it is shown, uint8 `h w 4`."""
    from av.video.reformatter import Interpolation

    # With these, numbers do not depend on the kind of CPU.
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
    picture = frame.reformat(format="rgba", src_colorspace=look.matrix, interpolation=exact, threads=1).to_ndarray()
    picture = np.rot90(picture, look.turns)
    if picture.shape[:2] == (look.height, look.width):
        return np.ascontiguousarray(picture)
    return np.asarray(Image.fromarray(picture).resize((look.width, look.height), Image.Resampling.BILINEAR))
