"""What pass one keeps of all faces that it follows through a video, until it is known which of them is dubbed."""

from array import array
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.settings import CropSettings
from tasks.dubbing.appearance import look_of
from tasks.dubbing.covered import MOST_FRAMES, PATCHES, mouth_look, usual_look, visibility
from tasks.dubbing.face_choice import DECIDED_BY_S, FollowedFace
from tasks.dubbing.frame_arrays import GrowingArray
from tasks.dubbing.reference_choice import Candidate, Candidates
from tasks.faces.crop import Box, Points, crop_face, face_box, lip_opening, relative_points, split_points
from tasks.faces.tracks import FaceFrame

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]
BoxArray = npt.NDArray[np.float64]

SMALLEST_BOX_PX = 8
"""A face box with a shorter side is no face that could be rendered."""
LOOKS = 6
"""Pictures by which a track's person is told: one a second at first, then after twice as long each time."""
POINTS = 131
ROWS_AT_ONCE = 2000
"""Looks of mouths, of whoever is in the picture, that are read at a time, to bound memory."""


@dataclass(frozen=True)
class FrameFace:
    """The face of one frame, in the networks' terms: pose (2, 74) and content (2, 57), 0..1 of the box."""

    box: Box
    pose: FloatArray
    content: FloatArray

    @property
    def crop_size(self) -> tuple[float, float]:
        """Height and width of the box in source pixels."""
        return self.box.height, self.box.width

    def crop(self, picture: Picture, size: int) -> Picture:
        """The face (size, size, 3) in the frame's picture."""
        return crop_face(picture, self.box, size)


class FollowedFaces:
    """All faces of all frames. In memory: about 50 bytes for each; their landmarks and what their mouths look like lie in temporary files.

    by_track: the faces by the number of their track. candidates: crops that may become references.
    """

    def __init__(self, crop: CropSettings, fps: float) -> None:
        self.crop, self.fps = crop, fps
        self.by_track: dict[int, FollowedFace] = {}
        self.candidates = Candidates()
        self._decided_until = round(DECIDED_BY_S * fps)
        self._frames, self._tracks = array("q"), array("q")
        self._detected, self._openings = array("b"), array("f")
        self._boxes = array("d")
        self._points = GrowingArray((POINTS, 2), np.float32)
        self._mouths = GrowingArray((PATCHES, 3), np.float32)

    def add(self, frame: FaceFrame, shot: int) -> None:
        """Takes a face of the next frame (in the order of frames); one too small or outside the picture is as none."""
        face = face_of_frame(frame, self.crop)
        if face is None or frame.points is None or frame.track is None:
            return
        self._points.append(frame.points[None].astype(np.float32))
        self._mouths.append(mouth_look(frame.picture, frame.points)[None])
        if not self._frames:
            self._decided_until += frame.index if frame.index >= self._decided_until else 0
        self._frames.append(frame.index)
        self._tracks.append(frame.track)
        self._detected.append(frame.detected)
        self._openings.append(lip_opening(face.content))
        self._boxes.extend(astuple(face.box))
        followed = self.by_track.setdefault(frame.track, FollowedFace(frame.track, shot, frame.index, frame.index, face.box, face.box))
        followed.add(frame.index, face.box, decides=frame.index < self._decided_until)
        if frame.detected:
            self._show(frame, face, followed)

    def rows(self, tracks: list[int]) -> IndexArray:
        """Places of the faces of some tracks among all that were added, in the order of frames."""
        return np.flatnonzero(np.isin(np.frombuffer(self._tracks, dtype=np.int64), tracks))

    def frames(self, rows: IndexArray) -> IndexArray:
        """Frames of the video (n,)."""
        return np.frombuffer(self._frames, dtype=np.int64)[rows]

    def tracks(self, rows: IndexArray) -> IndexArray:
        """Tracks (n,)."""
        return np.frombuffer(self._tracks, dtype=np.int64)[rows]

    def detected(self, rows: IndexArray) -> npt.NDArray[np.bool_]:
        """Whether the face was found there (n,), and not interpolated."""
        return np.frombuffer(self._detected, dtype=np.int8)[rows].astype(bool)

    def openings(self, rows: IndexArray) -> FloatArray:
        """Lip openings (n,), in shares of the box."""
        return np.frombuffer(self._openings, dtype=np.float32)[rows]

    def boxes(self, rows: IndexArray) -> BoxArray:
        """Boxes (n, 4) in source pixels."""
        return np.frombuffer(self._boxes, dtype=np.float64).reshape(-1, 4)[rows]

    def points(self, rows: IndexArray) -> Points:
        """Landmarks (n, 131, 2) in source pixels; the rows lie near each other."""
        first = int(rows[0])
        return self._points.read(first, int(rows[-1]) + 1)[rows - first].astype(np.float64)

    def visibility(self, rows: IndexArray) -> FloatArray:
        """How visible the mouth is (n,), 0..1, against how the person's usually looks: rows are all of one person's."""
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_FRAMES)).astype(np.int64)]
        usual = usual_look(np.concatenate([self._mouths.read(int(row), int(row) + 1) for row in some]))
        pieces = np.split(rows, np.flatnonzero(np.diff(rows // ROWS_AT_ONCE)) + 1)
        return np.concatenate([visibility(self._mouths.read(int(piece[0]), int(piece[-1]) + 1)[piece - piece[0]], usual) for piece in pieces])

    def _show(self, frame: FaceFrame, face: FrameFace, followed: FollowedFace) -> None:
        """Keeps what the face looks like, where it is this frame's turn."""
        self.candidates.offer(frame.index, lambda: self._candidate(frame, face))
        taken = len(followed.looks)
        if taken < LOOKS and frame.index - followed.first >= (2**taken - 1) * self.fps:
            followed.looks.append(look_of(face.crop(frame.picture, self.crop.size), face.pose, face.content, face.crop_size))

    def _candidate(self, frame: FaceFrame, face: FrameFace) -> Candidate:
        picture = face.crop(frame.picture, self.crop.size)
        return Candidate(frame.index, face.pose, face.content, lip_opening(face.content), face.crop_size, picture, frame.track or 0)


def face_of_frame(frame: FaceFrame, crop: CropSettings) -> FrameFace | None:
    """Box and landmarks of a followed frame; None without a face, or with one too small or outside the picture."""
    if frame.points is None:
        return None
    height, width = frame.picture.shape[:2]
    try:
        box = face_box(frame.points, (height, width), crop)
    except MediaError:  # outside the picture: this frame shows no face
        return None
    if min(box.width, box.height) < SMALLEST_BOX_PX:
        return None
    pose, content = split_points(relative_points(frame.points, box, crop))
    return FrameFace(box, pose, content)
