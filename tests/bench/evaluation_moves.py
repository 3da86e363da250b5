"""Whether each metric of `dubmill evaluate` moves the way its definition says: real clips beside themselves, spoilt in known ways.

    python -m tests.bench.evaluation_moves [FOLDER] [--clips 6] [--seconds 4]

FOLDER holds talking-head clips (default: ../shared/data/corpus beside the checkout). LPIPS and FID look through networks with seeded random
weights: what is shown is that they move, not how far. Prints a row a metric: the median over the clips, and in how many the direction held.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from schemas.jobs import EvaluationPair
from schemas.settings import EvaluateSettings
from tasks.evaluation.evaluate_pair import Instruments, evaluate_pair
from tasks.evaluation.feature_sums import frechet_distance_of_sums
from tasks.evaluation.seen_video import SeenVideo
from tests.manipulations import SHIFT_FRAMES, blurred, cut_clip, mouth_frozen
from tests.tasks.evaluation.foreign_networks import write_alexnet, write_inception

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "corpus"
CLIPS = (
    "c07_woman_hdtf_512_a.mp4",
    "c17_man_speech_450_20s.mp4",
    "c19_woman_speech_512_5s.mp4",
    "c20_man_hall_458_15s.mp4",
    "c22_woman_kitchen_720p_22s.mp4",
    "c18_man_office_256_60s.mp4",
)
Row = dict[str, Any]
NEAR = 0.02
"""Two figures that differ by less, as a share, count as the same."""


@dataclass(frozen=True)
class Expected:
    """What a definition says of a spoilt clip, in words, and whether its rows (generated, real) have it so."""

    says: str
    holds: Callable[[float, float], bool]


SAME = Expected("as the real one", lambda one, real: abs(one - real) <= NEAR * max(abs(real), 1e-9))
EXACT = Expected("exact", lambda one, real: abs(one - real) <= 1e-9)
FALLS = Expected("falls", lambda one, real: one < real)
RISES = Expected("rises", lambda one, real: one > real)
NOT_OVER = Expected("falls or stays", lambda one, real: one <= real)
NEARLY = Expected("within a quarter", lambda one, real: abs(one - real) <= 0.25 * abs(real))
HALVED = Expected("under a half", lambda one, real: one < 0.5 * real)
TO_ONE = Expected("to 1", lambda one, _: one > 0.9)


class RememberingInstruments(Instruments):
    """Looks at each video once: the real ones are compared with many."""

    seen: ClassVar[dict[Path, SeenVideo]] = {}

    def see(self, path: Path) -> SeenVideo:
        """As Instruments.see."""
        if path not in self.seen:
            self.seen[path] = super().see(path)
        return self.seen[path]


PICTURES_WORSE = {"psnr": FALLS, "ssim": FALLS, "lpips": RISES, "fid": RISES, "lmd": RISES, "lip_lmd": RISES}
EXPECTED: dict[str, dict[str, Expected]] = {
    "identical": dict.fromkeys(("psnr", "ssim", "lpips", "fid", "lmd", "lip_lmd", "articulation", "closure_precision", "closure_recall"), EXACT)
    | dict.fromkeys(("mouth_sharpness", "jitter", "seam", "silence_motion", "silence_opening", "lip_speech_correlation"), EXACT),
    "shifted": PICTURES_WORSE | {"closure_recall": NOT_OVER, "articulation": NEARLY, "jitter": NEARLY, "seam": NEARLY, "lip_speech_correlation": FALLS},
    "blurred": PICTURES_WORSE | {"mouth_sharpness": HALVED, "articulation": NEARLY, "lip_speech_correlation": NEARLY},
    "frozen": PICTURES_WORSE
    | {"articulation": HALVED, "closure_recall": NOT_OVER, "closure_precision": NOT_OVER, "jitter": FALLS, "silence_motion": FALLS}
    | {"lip_speech_correlation": FALLS},
    "audio swapped": {"leak": TO_ONE, "lip_speech_correlation": FALLS, "jitter": EXACT, "seam": EXACT},
}
"""By manipulation and metric. What a definition says nothing of is not listed."""
REAL = {"psnr": 100.0, "ssim": 1.0, "articulation": 1.0, "closure_precision": 1.0, "closure_recall": 1.0, "mouth_sharpness": 1.0, "fid": 0.0}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    sources = [options.folder / name for name in CLIPS if (options.folder / name).is_file()][: options.clips]
    if len(sources) < 2:
        sys.exit(f"Skipped: {options.folder} does not hold the clips that this looks at.")
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        print_table(measured(sources, Path(folder), round(options.seconds * 25)))


def measured(sources: list[Path], folder: Path, frames: int) -> dict[str, list[tuple[Row, Row]]]:
    """By manipulation, the rows (generated, real) of each clip."""
    real = [cut_clip(source, folder / f"{number}.mp4", frames) for number, source in enumerate(sources)]
    weights = {"lpips_weights": str(write_alexnet(folder / "alexnet.pth")), "fid_weights": str(write_inception(folder / "inception.pth"))}
    found: dict[str, list[tuple[Row, Row]]] = {}
    for manipulation in EXPECTED:
        settings = EvaluateSettings(compare_misaligned=True, pictures=6, **weights)  # type: ignore[arg-type]
        with RememberingInstruments(settings) as instruments:
            rows = []
            for number, clip in enumerate(real):
                made = _spoilt(manipulation, sources, number, clip, folder / f"{number}-{manipulation}.mp4", frames)
                generated, true = evaluate_pair(EvaluationPair(name=str(number), generated=str(made), real=str(clip)), instruments)
                rows.append((generated, true))
                print(f"{manipulation} {sources[number].stem}: {generated['status']} {generated.get('detail', '')}", file=sys.stderr, flush=True)
            sums = instruments.sums
            fid = frechet_distance_of_sums(sums["generated"], sums["real"]) if sums else None
            found[manipulation] = [(one | _shares(one) | {"fid": fid}, true | _shares(true) | REAL) for one, true in rows]
    return found


def _spoilt(manipulation: str, sources: list[Path], number: int, clip: Path, to: Path, frames: int) -> Path:
    if manipulation == "identical":
        return clip
    if manipulation == "shifted":
        return cut_clip(sources[number], to, frames, start_frame=SHIFT_FRAMES)
    if manipulation == "audio swapped":
        return cut_clip(clip, to, frames, sound_from=sources[(number + 1) % len(sources)])
    return (blurred if manipulation == "blurred" else mouth_frozen)(clip, to, frames)


def _shares(row: Row) -> Row:
    closed, moments = row.get("closed_frames"), row.get("real_closures")
    if not moments:
        return {}
    return {"closure_precision": row["right_closed_frames"] / closed if closed else 0.0, "closure_recall": row["met_closures"] / moments}


def print_table(found: dict[str, list[tuple[Row, Row]]]) -> None:
    """A row a metric, a column a manipulation: median, what is expected, in how many clips it held."""
    names = list(dict.fromkeys(name for expected in EXPECTED.values() for name in expected))
    print("| metric | " + " | ".join(EXPECTED) + " |\n" + "| --- " * (len(EXPECTED) + 1) + "|")
    print("| shift found, frames | " + " | ".join(_shifts(found[manipulation]) for manipulation in EXPECTED) + " |")
    for name in names:
        print(f"| {name} | " + " | ".join(_cell(found[manipulation], name, EXPECTED[manipulation].get(name)) for manipulation in EXPECTED) + " |")


def _shifts(rows: list[tuple[Row, Row]]) -> str:
    return ", ".join(str(generated.get("shift_frames")) for generated, _ in rows)


def _cell(rows: list[tuple[Row, Row]], name: str, expected: Expected | None) -> str:
    pairs = [(one[name], real.get(name, REAL.get(name))) for one, real in rows if one.get(name) is not None]
    if not pairs:
        return "absent"
    values = sorted(one for one, _ in pairs)
    median = f"{values[len(values) // 2]:.4g}"
    if expected is None:
        return f"{median} (nothing said)"
    if expected is not TO_ONE:
        pairs = [(one, real) for one, real in pairs if real is not None]
    held = sum(expected.holds(one, real if real is not None else 0.0) for one, real in pairs)
    return f"{median}, {expected.says}: {held}/{len(pairs)}"


if __name__ == "__main__":
    main()
