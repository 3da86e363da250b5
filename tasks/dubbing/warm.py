"""Pass one ahead of time: a template is made and kept before anybody asks for a dub of its video."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from schemas.errors import MediaError, SettingsError
from schemas.settings import DubSettings
from tasks.dubbing.dub import open_footage
from tasks.dubbing.generate import check_headers
from tasks.dubbing.inputs import fetched
from tasks.dubbing.template import analyse
from tasks.dubbing.template_store import template_key, templates_of
from tasks.progress import Progress, silent
from tasks.published import with_weights_in_use

WHOLE = sys.maxsize
"""More frames than any video has: its template serves a speech of any length."""


def warm_templates(videos: Sequence[str], settings: DubSettings, progress: Progress = silent) -> tuple[dict[str, str], list[MediaError]]:
    """`warm_template` for each of some videos: the keys by video, and what was wrong with those that cannot be used."""
    keys: dict[str, str] = {}
    faults: list[MediaError] = []
    for video in videos:
        try:
            keys[video] = warm_template(video, settings, progress)
        except MediaError as error:
            faults.append(error)
    return keys, faults


def warm_template(video: str, settings: DubSettings, progress: Progress = silent) -> str:
    """Looks at a whole video (path or URI) and keeps its template in `settings.templates`; gives the template's key.

    One that is kept already only counts as used. Of the checkpoints only the headers are read, for the crop.
    Raises SettingsError without a place for templates, MediaError for the video, CheckpointError for the checkpoints.
    """
    store = templates_of(settings)
    if store is None:
        raise SettingsError("There is no place for templates in the settings; give `templates`.")
    crop = check_headers(with_weights_in_use(settings))
    with ExitStack() as stack:
        path = fetched(stack, video)
        footage, _ = open_footage(path, settings)
        key = template_key(path, settings, crop)
        store.get(key, lambda: analyse(footage, WHOLE, crop, settings, progress), WHOLE, video)
    return key
