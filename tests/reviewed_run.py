"""A bulk run that was done, to be looked at: dubs of one clip, and a job that failed."""

import json
from pathlib import Path

import yaml

from schemas.settings import BulkDubSettings, ReviewSettings
from tasks.dubbing.bulk import bulk_dub_here
from tests.footage import make_speech, make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks

CLIP_S, SPEECH_S = 1.0, 1.48
"""The speech is longer, so the clip is played forth and back."""


def make_reviewed_run(folder: Path, names: tuple[str, ...] = ("anna", "ben 1")) -> ReviewSettings:
    """Dubs, and gives the settings of the run's review, whose material goes below the run's own folder."""
    clip = make_talking_clip(folder / "clip.mp4", seconds=CLIP_S)
    speech = make_speech(folder / "speech.wav", seconds=SPEECH_S)
    rows = [{"job_id": name, "video": clip.name, "speech": speech.name, "out": f"deep/{name}.mp4"} for name in names]
    rows.append({"job_id": "gone", "video": "none.mp4", "speech": speech.name, "out": "gone.mp4"})
    (folder / "monday.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    networks = write_random_networks(folder / "networks")
    settings = BulkDubSettings(**networks.model_dump(), jobs=str(folder / "monday.jsonl"), out=str(folder / "dubs"))
    bulk_dub_here(settings)
    (folder / "bulk.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return ReviewSettings(dub_settings=str(folder / "bulk.yaml"), review=str(folder / "review"), preview_height=144)
