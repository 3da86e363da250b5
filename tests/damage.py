"""Damaged media files for tests: each follows from an original's bytes, a kind of damage and a seed, so a failure can be had again."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import av

from tests.footage import make_talking_clip

HEAD_BYTES = 4096
"""Headers lie here; with MP4 and AVI, whose index is last, also at the other end."""
OTHER_EXTENSIONS = (".avi", ".mp4", ".mkv", ".mpg", ".webm", ".wav", ".jpg", ".png", ".txt", ".m3u8", ".sdp", "")
ABSURD_NUMBERS = (0, 1, 2, 7, 0x7FFF, 0xFFFF, 0x10000, 0x3FFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MP4_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta")
MP4_FIELDS = (b"mvhd", b"tkhd", b"mdhd", b"elst", b"stsd", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"co64", b"stss", b"hdlr")
AVI_FIELDS = (b"avih", b"strh", b"strf", b"idx1", b"RIFF", b"LIST")
MATROSKA_NUMBERS = (
    b"\x44\x89",  # Duration
    b"\x2a\xd7\xb1",  # TimestampScale
    b"\x23\xe3\x83",  # DefaultDuration
    b"\xb0",  # PixelWidth
    b"\xba",  # PixelHeight
    b"\xb5",  # SamplingFrequency
    b"\x9f",  # Channels
    b"\xe7",  # a cluster's timestamp
    b"\x1f\x43\xb6\x75",  # Cluster
)
MPEG_STARTS = (b"\x00\x00\x01\xb3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xe0", b"\x00\x00\x01\xc0", b"\x00\x00\x01\x00")
"""Sequence header (size, rate), pack header (clock), packets of video and of sound (times), picture."""
CODECS = {
    ".mkv": ("libx264", "aac"),
    ".mov": ("mpeg4", "pcm_s16le"),
    ".avi": ("mpeg4", "libmp3lame"),
    ".webm": ("libvpx", "libopus"),
    ".mpg": ("mpeg1video", "mp2"),
    ".ts": ("libx264", "aac"),
}

Damage = Callable[[bytes, Random], bytes]


def make_originals(folder: Path) -> list[Path]:
    """A second of a talking face in each container that people have: MP4, Matroska, QuickTime, AVI, WebM, MPEG program and transport streams."""
    first = make_talking_clip(folder / "talking.mp4", seconds=1.0)
    return [first, *(_recoded(first, folder / f"talking{suffix}", *codecs) for suffix, codecs in CODECS.items())]


def damage(original: bytes, kind: str, seed: int, suffix: str) -> tuple[bytes, str]:
    """The damaged content and the extension of its file."""
    random = Random(f"{kind}-{seed}")
    if kind == "wrong_extension":
        return original, random.choice([other for other in OTHER_EXTENSIONS if other != suffix])
    return KINDS[kind](original, random), suffix


def truncated(content: bytes, random: Random) -> bytes:
    """Cut off: anywhere, or within the header."""
    return content[: random.randrange(1, random.choice((HEAD_BYTES, len(content))))]


def emptied(_content: bytes, _random: Random) -> bytes:
    """Zero bytes long."""
    return b""


def beginning_lost(content: bytes, random: Random) -> bytes:
    """Without its first bytes."""
    return content[random.randrange(1, random.choice((64, HEAD_BYTES, len(content)))) :]


def header_bits_flipped(content: bytes, random: Random) -> bytes:
    """A few bits of the first or the last kilobytes flipped."""
    at_end = random.random() < 0.5
    span = min(HEAD_BYTES, len(content))
    begin = len(content) - span if at_end else 0
    return _flipped(content, (begin + random.randrange(span) for _ in range(random.choice((1, 4, 16, 64)))), random)


def body_bits_flipped(content: bytes, random: Random) -> bytes:
    """From one to thousands of bits flipped anywhere."""
    count = random.choice((1, 10, 100, 1000, 5000))
    return _flipped(content, (random.randrange(len(content)) for _ in range(count)), random)


def zeroed(content: bytes, random: Random) -> bytes:
    """A piece overwritten with zeros, as a download that skipped it."""
    begin, end = _piece(content, random)
    return content[:begin] + bytes(end - begin) + content[end:]


def noised(content: bytes, random: Random) -> bytes:
    """A piece overwritten with noise."""
    begin, end = _piece(content, random)
    return content[:begin] + random.randbytes(end - begin) + content[end:]


def piece_doubled(content: bytes, random: Random) -> bytes:
    """A piece that is there twice."""
    begin, end = _piece(content, random)
    return content[:end] + content[begin:]


def piece_lost(content: bytes, random: Random) -> bytes:
    """A piece missing from the middle."""
    begin, end = _piece(content, random)
    return content[:begin] + content[end:]


def pieces_swapped(content: bytes, random: Random) -> bytes:
    """Two neighbouring pieces in the wrong order."""
    begin, end = _piece(content, random)
    middle = (begin + end) // 2
    return content[:begin] + content[middle:end] + content[begin:middle] + content[end:]


def two_in_one(content: bytes, random: Random) -> bytes:
    """The end of the file followed by the whole of it: two recordings joined as if they were text."""
    return content[random.randrange(len(content)) :] + content if random.random() < 0.5 else content + content


def absurd_header(content: bytes, random: Random) -> bytes:
    """One to three numbers of the container made absurd: sizes, durations, rates, counts, offsets, times."""
    for _ in range(random.choice((1, 1, 2, 3))):
        content = _with_absurd_number(content, random)
    return content


KINDS: dict[str, Damage] = {
    made.__name__: made
    for made in (
        truncated,
        emptied,
        beginning_lost,
        header_bits_flipped,
        body_bits_flipped,
        zeroed,
        noised,
        piece_doubled,
        piece_lost,
        pieces_swapped,
        two_in_one,
        absurd_header,
    )
}


def mp4_boxes(content: bytes, begin: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, first byte (of its length) and end of every box, those within others too."""
    at, end = begin, len(content) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, at)
        box_end = min(end, at + size) if size >= 8 else end
        yield kind, at, box_end
        if kind in MP4_CONTAINERS:
            yield from mp4_boxes(content, at + 8, box_end)
        at = box_end


def _with_absurd_number(content: bytes, random: Random) -> bytes:
    """One field of a header, 16, 32 or 64 bits of it, overwritten; content of no known container stays as it is."""
    fields = list(_mp4_fields(content) if content[4:8] == b"ftyp" else _marked_fields(content))
    if not fields:
        return content
    begin, end = random.choice(fields)
    size = random.choice((2, 4, 4, 4, 8))
    at = begin + random.randrange(max(1, (end - begin) // 2)) * 2
    number = random.choice((*ABSURD_NUMBERS, random.getrandbits(8 * size)))
    order = random.choice(("big", "little")) if content.startswith(b"RIFF") else "big"
    value = (number % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
    return content[:at] + value + content[at + size :]


def _mp4_fields(content: bytes) -> Iterator[tuple[int, int]]:
    """The content of each header box, the first hundred bytes of it, and each box's length."""
    for kind, begin, end in mp4_boxes(content):
        if kind in MP4_FIELDS:
            yield begin + 8, min(end, begin + 108)
        elif kind in (*MP4_CONTAINERS, b"mdat"):
            yield begin, begin + 4


def _marked_fields(content: bytes) -> Iterator[tuple[int, int]]:
    """A few bytes after each mark of the container; of marks that are a byte long, only those in the header."""
    marks = {b"RIFF": AVI_FIELDS, b"\x1aE\xdf\xa3": MATROSKA_NUMBERS}.get(content[:4], MPEG_STARTS)
    for mark in marks:
        limit = HEAD_BYTES if len(mark) == 1 else len(content)
        at = content.find(mark, 0, limit)
        while at >= 0:
            yield at + len(mark), at + len(mark) + (56 if marks is AVI_FIELDS else 10)
            at = content.find(mark, at + 1, limit)


def _flipped(content: bytes, places: Iterator[int], random: Random) -> bytes:
    changed = bytearray(content)
    for at in places:
        changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


def _piece(content: bytes, random: Random) -> tuple[int, int]:
    """Begin and end of a piece, from a few bytes to a third of the file."""
    length = random.randrange(4, random.choice((64, HEAD_BYTES, max(65, len(content) // 3))))
    begin = random.randrange(max(1, len(content) - length))
    return begin, min(len(content), begin + length)


def _recoded(origin: Path, target: Path, video_codec: str, audio_codec: str) -> Path:
    with av.open(str(origin)) as source, av.open(str(target), "w") as made:
        pictures = made.add_stream(video_codec, rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = source.streams.video[0].width, source.streams.video[0].height, "yuv420p"
        rate = 48000 if audio_codec in ("libopus", "mp2") else 16000
        sound = made.add_stream(audio_codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="mono", rate=rate)
        for frame in source.decode(video=0):
            frame.pict_type = av.video.frame.PictureType.NONE
            made.mux(pictures.encode(frame))
        made.mux(pictures.encode(None))
        source.seek(0)
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                made.mux(sound.encode(piece))
        made.mux(sound.encode(None))
    return target
