"""What a dub says of itself: a short JSON text in the mp4's comment, where any player and ffprobe show it."""

import json
from pathlib import Path

import av

from schemas.errors import DubmillError
from tasks.file_hash import file_hash
from tasks.media.probe import probe
from tasks.places import local_copy
from tasks.version import code_version

STAMP_KEY = "comment"
"""The metadata key: one of the few that mp4 keeps and every player reads."""
TOOL = "dubmill"


def make_stamp(video: Path, speech: Path, versions: dict[str, str]) -> dict[str, str]:
    """Metadata for a dub: that it is synthetic, by which version and models it was made, and of what (SHA-256)."""
    stamp = {
        "synthetic": True,
        "tool": TOOL,
        "tool_version": code_version(),
        "landmark_generator": versions["landmark_generator"],
        "renderer": versions["renderer"],
        "video_sha256": file_hash(video),
        "speech_sha256": file_hash(speech),
    }
    return {STAMP_KEY: json.dumps(stamp)}


def read_dub_stamp(location: str | Path) -> dict[str, object]:
    """What a dub says of itself. MediaError for a file that is no media; DubmillError for one without a stamp."""
    with local_copy(str(location)) as path:
        probe(path)
        with av.open(str(path)) as container:
            comment = dict(container.metadata).get(STAMP_KEY, "")
    try:
        stamp = json.loads(comment)
    except json.JSONDecodeError:
        stamp = None
    if not isinstance(stamp, dict) or stamp.get("tool") != TOOL:
        raise DubmillError(f"{location} does not say that dubmill made it: there is no stamp in its metadata.")
    return stamp
