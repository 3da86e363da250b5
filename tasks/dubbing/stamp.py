"""What a dub says of itself: a short JSON text in the mp4's comment, where any player and ffprobe show it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.errors import DubmillError
from schemas.jobs import DubOrigin
from tasks.dubbing.inputs import named_as_given
from tasks.file_hash import versions_of
from tasks.media.container import open_container
from tasks.media.mp4 import index_end
from tasks.media.probe import probe
from tasks.places import is_remote, local_copy, name_of, read_range
from tasks.version import code_version

STAMP_KEY = "comment"
"""The metadata key: one of the few that mp4 keeps and every player reads."""
BEGINNING_BYTES = 2**18
"""Fetched of a video in a bucket: dubs have their index in front, and that of some minutes is shorter than this."""
TOOL = "dubmill"
STAMP_VERSION = 1
"""Raised when a field changes its meaning; new fields alone do not raise it, readers show what they do not know."""


def make_stamp(made_of: DubOrigin) -> dict[str, str]:
    """Metadata for a dub: that it is synthetic, by which version and models it was made, and of what (SHA-256).

    Whoever gets the video gets this: no place of a file, store or model is named. What there is none of is left out.
    """
    stamp = {
        "synthetic": True,
        "tool": TOOL,
        "tool_version": code_version(),
        "stamp_version": STAMP_VERSION,
        **versions_of(made_of.models),
        "models_sha256": made_of.models,
        "video_sha256": made_of.video,
        "speech_sha256": made_of.speech,
        "segments_sha256": list(made_of.segments) or None,
        "soundtrack_sha256": made_of.soundtrack,
        "consent": made_of.consent,
        "snapshots": made_of.snapshots or None,
    }
    return {STAMP_KEY: json.dumps({name: value for name, value in stamp.items() if value is not None})}


def read_dub_stamp(location: str | Path) -> dict[str, object]:
    """All that a dub says of itself, also what a newer version added. MediaError for no media; DubmillError for one without a stamp."""
    with _told_by(str(location)) as path, open_container(path) as container:
        comment = dict(container.metadata).get(STAMP_KEY, "")
    try:
        stamp = json.loads(comment)
    except json.JSONDecodeError:
        stamp = None
    if not isinstance(stamp, dict) or stamp.get("tool") != TOOL:
        raise DubmillError(f"{location} does not say that dubmill made it: there is no stamp in its metadata.")
    return stamp


@contextmanager
def _told_by(location: str) -> Iterator[Path]:
    """A file with the metadata of a video: itself, or of one elsewhere its beginning, where that is enough."""
    beginning = _beginning(location) if is_remote(location) else None
    if beginning is None:
        with local_copy(location) as path, named_as_given(str(path), location):
            probe(path)
            yield path
        return
    with TemporaryDirectory(prefix="dubmill-") as folder:
        path = Path(folder) / name_of(location)
        path.write_bytes(beginning)
        with named_as_given(str(path), location):
            yield path


def _beginning(location: str) -> bytes | None:
    """The bytes of an MP4 up to the end of its index; None where that is at the file's end."""
    beginning = read_range(location, 0, BEGINNING_BYTES)
    end = index_end(beginning)
    return None if end is None else beginning[:end] if end <= len(beginning) else read_range(location, 0, end)
