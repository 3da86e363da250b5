"""What a file holds, without reading all of it."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.media.colour import BT709_TAGS, ColourTags, colour_tags
from tasks.media.container import audio_stream, damaged, longest_s, open_container, reading, require_file, video_stream
from tasks.media.decode import is_picture_file, read_picture
from tasks.media.pictures import SQUARE_PIXELS, orientation_of

SLOWEST_FPS = 1
FASTEST_FPS = 120
"""Rates above are a container's clock rather than its pictures' rate, or slow motion; nothing here gains from more."""
USUAL_FPS = Fraction(25)
"""For what has no rate: pictures and sound."""
USUAL_RATES = tuple(
    Fraction(rate)
    for rate in ("5", "8", "10", "12", "25/2", "15", "20", "24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60", "100", "120")
)
"""What a video of a variable rate is played at: every player and editor knows them."""
MOST_LEFT_OUT = Fraction(19, 10)
"""A grid less than about twice as fine as the average is that of a camera which leaves out pictures; a finer one is a clock, or fields."""
LARGEST_DENOMINATOR = 100_000
"""Of a frame rate: an encoder's clock must hold it; in practice every declared rate stays exact."""
PACKETS_PROBED = 500
"""Packets tried before the first picture is given up; decoding judges the file then."""
PACKETS_TIMED = 100
"""Packets from whose times a rate is measured when the container does not give one."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    `width` and `height` are pixels of the upright picture (0 for sound); `rotation_deg` is how far the stored one is turned
    counter-clockwise for that; `duration_s` and `start_s` are the video stream's, or the sound's where there is no video
    (None: not said, or more than a file of its size can hold); `has_video` is False for still pictures and cover art.
    `colour` is what the stored pictures are tagged with; `pixel_aspect` is how wide a pixel of the upright picture is for its height;
    `interlaced`: each picture is two of half the lines, as television has them.
    """

    is_picture: bool = False
    has_video: bool = False
    has_audio: bool = False
    width: int = 0
    height: int = 0
    rotation_deg: int = 0
    fps: Fraction = USUAL_FPS
    duration_s: float | None = None
    start_s: float = 0.0
    video_codec: str | None = None
    audio_codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    colour: ColourTags = BT709_TAGS
    pixel_aspect: Fraction = SQUARE_PIXELS
    interlaced: bool = False


def probe(path: str | Path) -> MediaInfo:
    """What a video, sound or picture file holds.

    Raises MediaError: MISSING, UNREADABLE (permissions, I/O), NOT_MEDIA (also for a folder), DAMAGED (for example cut off).
    """
    _, head = require_file(path)
    if is_picture_file(head):
        height, width = read_picture(path).shape[:2]
        return MediaInfo(is_picture=True, width=width, height=height)
    with open_container(path) as container, reading(path):
        if video_stream(container) is None and audio_stream(container) is None:
            raise MediaError(Reason.NOT_MEDIA, f"{path} holds neither video nor sound.")
        return MediaInfo(**_video_facts(path, container), **_audio_facts(container), **_times(container))


def _video_facts(path: str | Path, container: InputContainer) -> dict:
    stream = video_stream(container)
    if stream is None:
        return {}
    if stream.codec_context is None:
        raise damaged(path, "its video is of a kind that ffmpeg does not know")
    fps = _declared_rate(stream) or _measured_rate(container, stream)
    frame = _first_frame(container, stream)
    stored = (frame.width, frame.height) if frame is not None else (stream.width, stream.height)
    if 0 in stored:
        raise damaged(path, "its video stream cannot be decoded")
    facts = {"has_video": True, "fps": fps, "video_codec": stream.codec_context.name}
    if frame is None:
        return facts | {"width": stored[0], "height": stored[1]}
    orientation = orientation_of(frame)
    width, height = orientation.upright_size(*stored)
    aspect = stream.sample_aspect_ratio or SQUARE_PIXELS
    upright = {"width": width, "height": height, "rotation_deg": orientation.rotation_deg, "pixel_aspect": 1 / aspect if orientation.transposed else aspect}
    return facts | upright | {"colour": colour_tags(frame), "interlaced": frame.interlaced_frame}


def _audio_facts(container: InputContainer) -> dict:
    stream = audio_stream(container)
    if stream is None:
        return {}
    context = stream.codec_context
    return {"has_audio": True, "audio_codec": context.name, "sample_rate": context.sample_rate, "channels": context.channels}


def _times(container: InputContainer) -> dict:
    stream = video_stream(container) or audio_stream(container)
    start_s = 0.0
    if stream is None or stream.time_base is None:
        return {}
    if stream.start_time is not None:
        start_s = float(stream.start_time * stream.time_base)
    if stream.duration:
        duration_s = float(stream.duration * stream.time_base)
    elif container.duration:
        duration_s = max(0.0, ((container.start_time or 0) + container.duration) / av.time_base - start_s)
    else:
        return {"start_s": start_s}
    return {"start_s": start_s} | ({"duration_s": duration_s} if duration_s <= longest_s(container) else {})


def _declared_rate(stream: VideoStream) -> Fraction | None:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and SLOWEST_FPS <= rate <= FASTEST_FPS:
            return _played_rate(rate.limit_denominator(LARGEST_DENOMINATOR), stream.base_rate)
    return None


def _played_rate(average: Fraction, base: Fraction | None) -> Fraction:
    """The rate itself where pictures come steadily, however odd it is; where they do not, the usual one that they are nearest to.

    base: the rate of the grid that all the pictures' times lie on; of steady pictures it is their rate (or that of their fields).
    """
    if base in (None, average) or average in USUAL_RATES:
        return average
    if base in USUAL_RATES and average < base < MOST_LEFT_OUT * average:
        return base
    return min(USUAL_RATES, key=lambda usual: max(usual / average, average / usual))


def _measured_rate(container: InputContainer, stream: VideoStream) -> Fraction:
    """The rate of the first packets; leaves the container at its beginning."""
    times = [packet.pts for packet in islice(container.demux(stream), PACKETS_TIMED) if packet.pts is not None]
    container.seek(0)
    span = max(times) - min(times) if times else 0
    if not span or stream.time_base is None:
        return USUAL_FPS
    measured = Fraction(len(times) - 1) / (span * stream.time_base)
    return min(max(measured, Fraction(SLOWEST_FPS)), Fraction(FASTEST_FPS)).limit_denominator(LARGEST_DENOMINATOR)


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    # An empty packet would end the decoding.
    packets = (packet for packet in islice(container.demux(stream), PACKETS_PROBED) if packet.size)
    for packet in chain(packets, [None]):
        try:
            for frame in stream.decode(packet):
                return frame
        except av.FFmpegError:
            continue
    return None
