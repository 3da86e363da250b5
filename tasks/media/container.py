"""Opening media files safely: local files only, no playlists, and one clear error for each way in which a file cannot be used."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.format import ContainerFormat
from av.stream import Disposition
from av.video.stream import VideoStream

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.places import local_path

PROTOCOLS = "file,crypto,data"
"""What ffmpeg may open: a media file must never make it fetch from the network."""

REFUSED_PLAYLISTS = ("hls", "applehttp", "concat", "dash", "imf", "sdp", "rtsp", "rtp", "sap", "webm_dash_manifest", "vobsub", "avisynth", "vapoursynth")
"""They open other files or the network."""
REFUSED_PATTERNS = ("image2", "image2pipe", "lavfi")
"""They read more into a file's name than a name."""
REFUSED_TEXTS = ("tty", "bin", "xbin", "adf", "idf", "ffmetadata", "svg_pipe")
"""ffmpeg would draw text as pictures."""
REFUSED_FORMATS = frozenset({*REFUSED_PLAYLISTS, *REFUSED_PATTERNS, *REFUSED_TEXTS})

HEAD_BYTES = 64
PIECE_BYTES = 2**20
"""Read at a time from a file that is only tried."""

MEDIA_STARTS = (
    b"\x1aE\xdf\xa3",
    b"OggS",
    b"fLaC",
    b"ID3",
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",
    b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3",
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"FORM",
    b"GIF8",
    b"caff",
    b"#!AMR",
    b"\xff\xfb",
    b"\xff\xf1",
    b"\xff\xf9",
)
"""First bytes of Matroska, Ogg, FLAC, MP3, FLV, ASF, MPEG, RIFF, AIFF, GIF, CAF, AMR, MP3 and AAC streams."""
FEWEST_BYTES_A_SECOND = 100
"""Of picture and sound: a tenth of what the thriftiest codecs for speech alone take. A file that says it is longer has a damaged header."""
SHORT_S = 600
"""So long may any file be, whatever its size."""

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
"""Types that the first box of an MP4 or QuickTime file may have; they follow four bytes of length."""


def require_file(path: str | Path) -> tuple[Path, bytes]:
    """The path of a readable, regular, non-empty file, and its first 64 bytes. Raises MediaError in one sentence when it is none."""
    file = local_path(str(path)).absolute()
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise MediaError(Reason.NOT_MEDIA, f"{path} is a folder; give a file.")
        if not stat.S_ISREG(mode):
            raise MediaError(Reason.NOT_MEDIA, f"{path} is not a regular file.")
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError(Reason.MISSING, f"{path} is not there.") from error
    except (OSError, ValueError) as error:
        raise MediaError(Reason.UNREADABLE, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not head:
        raise MediaError(Reason.DAMAGED, f"{path} is empty.")
    return file, head


def open_container(path: str | Path) -> InputContainer:
    """Opens a media file with ffmpeg. Raises MediaError(MISSING | UNREADABLE | NOT_MEDIA | DAMAGED)."""
    file, head = require_file(path)
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": _allowed_formats()}
    try:
        return av.open(f"file:{file}", "r", container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        _require_content(file, error)
        raise _not_opened(path, head) from error


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Within it ffmpeg's errors become MediaError: UNREADABLE when the disk or share does not give the file, DAMAGED otherwise."""
    try:
        yield
    except av.FFmpegError as error:
        _require_content(local_path(str(path)), error)
        raise damaged(path, f"reading it ends in an error ({error.strerror})") from error


def video_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that ffmpeg would take; cover art is none."""
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    if isinstance(best, VideoStream) and best in moving:
        return best
    return moving[0] if moving else None


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The sound track that ffmpeg would take; one of a kind for which there is no decoder is none."""
    best = container.streams.best("audio")
    return best if isinstance(best, AudioStream) and best.codec_context is not None else None


def longest_s(container: InputContainer) -> float:
    """Seconds that a file of this size can hold at all; what its header says beyond that is not true."""
    return max(SHORT_S, container.size / FEWEST_BYTES_A_SECOND)


def damaged(path: str | Path, what: str) -> MediaError:
    """The error for a file that opens but from which nothing can be decoded."""
    return MediaError(Reason.DAMAGED, f"{path} is damaged: {what}.")


def _require_content(file: Path, error: av.FFmpegError) -> None:
    """Raises MediaError(UNREADABLE) when ffmpeg's error may be one of the disk or share and the file cannot be read to its end.

    ffmpeg says "input/output error" and "not permitted" of what a damaged file holds too, and then the next try ends the same.
    """
    if not isinstance(error, OSError):
        return
    try:
        with file.open("rb") as opened:
            while opened.read(PIECE_BYTES):
                pass
    except OSError as failure:
        raise MediaError(Reason.UNREADABLE, f"{file} cannot be read: {failure.strerror or failure}.") from failure


def _not_opened(path: str | Path, head: bytes) -> MediaError:
    if head.startswith(MEDIA_STARTS) or head[4:8] in MP4_BOXES:
        return damaged(path, "it begins like a media file but cannot be opened, perhaps because it was cut off")
    return MediaError(Reason.NOT_MEDIA, f"{path} is neither video nor sound that ffmpeg knows.")


@cache
def _allowed_formats() -> str:
    readable = (name for name in av.formats_available if name not in REFUSED_FORMATS)
    return ",".join(sorted(name for name in readable if _is_file_format(name)))


def _is_file_format(name: str) -> bool:
    try:
        return ContainerFormat(name, "r").is_input
    except ValueError:
        return False
