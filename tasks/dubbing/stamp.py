"""What a dub says of itself: a short JSON text in the mp4's comment, where any player and ffprobe show it."""

import json
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import DubmillError
from tasks.file_hash import file_hash
from tasks.media.container import open_container
from tasks.media.probe import probe
from tasks.places import local_copy
from tasks.version import code_version

STAMP_KEY = "comment"
"""The metadata key: one of the few that mp4 keeps and every player reads."""
TOOL = "dubmill"
STAMP_VERSION = 1
"""Raised when a field changes its meaning; new fields alone do not raise it, readers show what they do not know."""


def make_stamp(
    video: Path,
    speech: Path,
    versions: dict[str, str],
    *,
    consent: str | None = None,
    soundtrack: Path | None = None,
    snapshots: dict[str, str] | None = None,
    segments: Sequence[Path] = (),
) -> dict[str, str]:
    """Metadata for a dub: that it is synthetic, by which version and models it was made, and of what (SHA-256).

    versions: of landmark_generator and renderer. Only where given: the reference of the `consent`; the `soundtrack`, where it is not
    the speech; the `snapshots` that the networks were trained on, by network; the speeches of `segments`, in their order, which then moved the lips.
    """
    stamp = {
        "synthetic": True,
        "tool": TOOL,
        "tool_version": code_version(),
        "stamp_version": STAMP_VERSION,
        "landmark_generator": versions["landmark_generator"],
        "renderer": versions["renderer"],
        "video_sha256": file_hash(video),
        "speech_sha256": file_hash(speech),
        "segments_sha256": [file_hash(segment) for segment in segments] or None,
        "soundtrack_sha256": file_hash(soundtrack) if soundtrack is not None else None,
        "consent": consent,
        "snapshots": snapshots or None,
    }
    return {STAMP_KEY: json.dumps({name: value for name, value in stamp.items() if value is not None})}


def read_dub_stamp(location: str | Path) -> dict[str, object]:
    """All that a dub says of itself, also what a newer version added. MediaError for no media; DubmillError for one without a stamp."""
    with local_copy(str(location)) as path:
        probe(path)
        with open_container(path) as container:
            comment = dict(container.metadata).get(STAMP_KEY, "")
    try:
        stamp = json.loads(comment)
    except json.JSONDecodeError:
        stamp = None
    if not isinstance(stamp, dict) or stamp.get("tool") != TOOL:
        raise DubmillError(f"{location} does not say that dubmill made it: there is no stamp in its metadata.")
    return stamp
