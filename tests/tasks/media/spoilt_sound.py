"""A sound track that looks whole: its packets have their times and sizes, and nothing in them can be decoded."""

import io
from pathlib import Path

import av


def spoil_sound(path: Path) -> Path:
    """Puts other bytes into every packet of an MP4's sound, which is all that the file then holds."""
    with av.open(io.BytesIO(path.read_bytes())) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                spoilt = av.Packet(b"\x55" * packet.size)
                spoilt.pts, spoilt.dts, spoilt.duration, spoilt.time_base, spoilt.stream = packet.pts, packet.dts, packet.duration, packet.time_base, stream
                container.mux(spoilt)
    return path
