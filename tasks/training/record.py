"""What a run tells people: metric rows, TensorBoard, pictures, previews and progress. Only the worker that leads tells."""

import logging

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import DubmillError
from schemas.settings import TrainingSettings
from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.progress import Progress, silent
from tasks.training.boards import Boards, open_boards
from tasks.training.previews import write_preview
from tasks.training.session import Session
from tasks.training.state import MetricRows, Split, state_location
from tasks.training.validation import Preview

LOG = logging.getLogger(__name__)

ROW_FOR_EACH_STEP_UNTIL = 1000
ROW_EVERY = 20
"""Steps between two rows of training losses later on: curves of half a million steps stay small."""


class Record:
    """The record of one run, from a step on."""

    def __init__(self, settings: TrainingSettings, session: Session, progress: Progress, rows: MetricRows, step: int) -> None:
        self.out = settings.out
        self.steps = settings.steps
        self.leads = session.leads
        self.rows = rows
        self._progress = progress if session.leads else silent
        self._next_step = step + 1 if step else 0
        self._boards: Boards | None = None

    def begin(self) -> None:
        """Writes the rows as they stand, which says in one sentence that a place cannot be written; then opens the boards, once a run."""
        if self.leads:
            self.rows.write()
            self._boards = open_boards(self.out, self._next_step)

    def step(self, step: int, values: dict[str, float]) -> None:
        """The losses of a step, most telling first, or that it was skipped."""
        name, value = next(iter(values.items()))
        self._progress(step, self.steps, f"{name} {value:.4g}")
        if step <= ROW_FOR_EACH_STEP_UNTIL or step % ROW_EVERY == 0 or "skipped" in values:
            self._add("train", step, values)

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """The metrics of a validation."""
        self._add("val", step, metrics)
        if self.leads:
            self.rows.write()

    def picture(self, step: int, picture: npt.NDArray[np.uint8] | None) -> None:
        """A picture (H, W, 3) BGR that the network made."""
        if picture is None or not self.leads:
            return
        places.write_bytes(state_location(self.out, "pictures", f"step_{step}.png"), cv2.imencode(".png", picture)[1].tobytes())
        if self._boards:
            self._boards.add_picture(picture, step)

    def preview(self, step: int, preview: Preview | None, store: CorpusStore) -> None:
        """A short clip that the network made."""
        if preview is None or not self.leads:
            return
        try:
            write_preview(state_location(self.out, "previews", f"step_{step}.mp4"), preview, store)
        except DubmillError as error:  # of the media libraries, or of a clip that was forgotten meanwhile: no reason to end a run of days
            LOG.warning("There is no preview of step %d: %s", step, error)
        if self._boards:
            self._boards.add_preview(preview, step)

    def close(self) -> None:
        """Ends what is open."""
        if self._boards:
            self._boards.close()

    def _add(self, split: Split, step: int, values: dict[str, float]) -> None:
        if not self.leads:
            return
        self.rows.add(step, split, values)
        if self._boards:
            self._boards.add_scalars(split, values, step)
