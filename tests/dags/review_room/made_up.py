"""A batch of dubs that nobody made: review material as the data plane leaves it."""

import math
import subprocess
from pathlib import Path

from schemas.gate import Gate
from schemas.jobs import DubJob
from schemas.review import (
    BATCH_FILE,
    ITEMS_FOLDER,
    OPENINGS_PER_S,
    PEAKS_PER_S,
    ReviewBatch,
    ReviewItem,
    ReviewMetric,
    ReviewMoment,
    ReviewPassage,
)

REPOSITORY = Path(__file__).parents[3]
DATA_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
SECONDS = 6.0
RISKS = {"anna-003": 0.83, "ben-012": 0.61, "carla-007": 0.42, "名前-001": 0.4, "dora-021": 0.12, "emil-002": 0.05}
HELD = "carla-007"
"""The dub that the gate holds."""
WHY = ("the head is turned away", "the new mouth does what this person's never does", "something is before the mouth")


def write_batch(prefix: Path, name: str, risks: dict[str, float] | None = None, *, title: str = "", note: str = "", videos: bool = False) -> Path:
    """Writes a batch; with `videos` also one drawn pair of videos, which all its items show. Returns its folder."""
    folder = prefix / name
    for part in (ITEMS_FOLDER, "previews"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if videos:
        draw_videos(folder / "previews")
    items = [made_up_item(job_id, risk) for job_id, risk in (risks or RISKS).items()]
    for item in items:
        (folder / ITEMS_FOLDER / f"{item.key}.json").write_text(item.model_dump_json())
    (folder / BATCH_FILE).write_text(ReviewBatch(title=title, note=note, rows=tuple(item.row() for item in items)).model_dump_json())
    return folder


def draw_videos(folder: Path) -> None:
    subprocess.run([DATA_PYTHON, Path(__file__).with_name("draw_videos.py"), folder, "face", str(SECONDS)], check=True, capture_output=True)


def made_up_item(job_id: str, risk: float, fingerprint: str = "0123456789abcdef") -> ReviewItem:
    """The riskier, the more moments it has."""
    moments = tuple(
        ReviewMoment(start_s=0.8 + 1.7 * number, end_s=1.4 + 1.7 * number, reason=why, confidence=max(0.05, 0.75 - risk + 0.12 * number))
        for number, why in enumerate(WHY[: round(3 * risk + 0.3)])
    )
    held = job_id == HELD
    sentence = "jitter is 0.051, over 0.03." if held else "jitter is 0.013 (at most 0.03)."
    return ReviewItem(
        job_id=job_id,
        fingerprint=fingerprint,
        dub="previews/face.dub.mp4",
        source="previews/face.source.mp4",
        job=DubJob(job_id=job_id, video="/footage/presenter.mp4", speech=f"/speech/{job_id}.wav", out=f"{job_id}.mp4"),
        fps=25,
        duration_s=SECONDS,
        peaks=tuple(_sound(number / PEAKS_PER_S) for number in range(int(SECONDS * PEAKS_PER_S))),
        source_opening=_mouth(2.1),
        dub_opening=tuple(None if 100 <= number < 120 else value for number, value in enumerate(_mouth(3.7))),
        confidence=tuple(round(0.95 - risk * abs(math.sin(second)), 3) for second in range(int(SECONDS))),
        moments=moments,
        passed_through=(ReviewPassage(start_s=4.0, end_s=4.8, reason="turned-away"),),
        metrics={
            "articulation": ReviewMetric(value=0.87, real_video=1.0),
            "closure_recall": ReviewMetric(value=0.64, real_video=0.97),
            "leak": ReviewMetric(value=0.08, real_video=1.0),
            "jitter": ReviewMetric(value=0.013, real_video=0.011),
            "sync_confidence": ReviewMetric(value=None, reason="no SyncNet checkpoint was given"),
        },
        settings={"references": 25, "smoothing": "savitzky-golay", "sharpening": 0.0, "hold_to_head": True, "face": "largest", "fps": "source"},
        models={"landmark-generator": "9f3ab51c20d47e66", "renderer": "41c07be2aa90d1f3"},
        risk=risk,
        gate=Gate(status="held" if held else "passed", sentence=sentence),
    )


def _sound(time_s: float) -> float:
    return round(abs(math.sin(3.7 * math.pi * time_s)) * (0.35 + 0.3 * math.sin(time_s)), 3)


def _mouth(pace: float) -> tuple[float, ...]:
    return tuple(round(0.03 + 0.12 * abs(math.sin(pace * math.pi * number / OPENINGS_PER_S)), 4) for number in range(int(SECONDS * OPENINGS_PER_S)))
