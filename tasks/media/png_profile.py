"""The colour profile of a PNG file, which OpenCV does not apply and of which libpng complains on standard error."""

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD, TAIL = struct.Struct(">I4s"), 4
"""Of a chunk: the length of what it holds and its kind before, a checksum after."""


def without_profile(coded: bytes) -> bytes:
    """A picture file's content without the profile that stands before its pixels, if it is a PNG; else as it is. The pixels stay the same."""
    if not coded.startswith(SIGNATURE):
        return coded
    kept = [SIGNATURE]
    start, kind = len(SIGNATURE), b""
    while kind != b"IDAT" and start + HEAD.size <= len(coded):
        length, kind = HEAD.unpack_from(coded, start)
        end = start + HEAD.size + length + TAIL
        if kind != b"iCCP":
            kept.append(coded[start:end])
        start = end
    return b"".join([*kept, coded[start:]])
