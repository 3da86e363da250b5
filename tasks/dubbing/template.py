"""Pass one over a video: where the face is in every frame, and the references that the networks copy the person from.

No full picture is kept: landmarks and boxes of every frame (about a kilobyte a frame), and at most CANDIDATES face crops.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.reasons import Reason
from schemas.settings import CropSettings
from tasks.dubbing.timeline import NO_TRACK
from tasks.faces import draw_sketch
from tasks.faces.crop import Box, crop_face, face_box, lip_opening, relative_points, split_points
from tasks.faces.landmarks import FaceMesh
from tasks.faces.references import reference_frames
from tasks.faces.tracks import FaceFrame, follow_faces
from tasks.media.decode import Frame, read_frames, read_frames_backwards, read_picture
from tasks.media.probe import MediaInfo
from tasks.progress import Progress, silent

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

STILL_FPS = Fraction(25)
"""Frames a second of a video made from a still picture."""
CANDIDATES = 1000
"""Most face crops kept to choose references from: 50 MB at 128 pixels, every frame of the first 40 s at 25 a second."""
SMALLEST_BOX_PX = 8
"""A face box with a shorter side is no face that could be rendered."""


@dataclass(frozen=True)
class Footage:
    """A video or a still picture, as it is to be played: (height, width, 3) BGR pictures at `fps`."""

    path: Path
    fps: Fraction
    width: int
    height: int
    is_picture: bool

    def frames(self, most: int) -> Iterator[Frame]:
        """The first `most` frames in order; one frame where it is a still picture."""
        if self.is_picture:
            return iter([Frame(0, 0.0, read_picture(self.path))])
        return read_frames(self.path, self.fps, 0, most)

    def played(self, source_frames: int, frames: int) -> Iterator[Picture]:
        """`frames` pictures, forth and back over the first `source_frames` (the order of `timeline.played_frames`)."""
        if source_frames == 1:
            picture = next(self.frames(1)).picture
            return itertools.repeat(picture, frames)
        return itertools.islice(self._forth_and_back(source_frames, frames), frames)

    def _forth_and_back(self, source_frames: int, frames: int) -> Iterator[Picture]:
        for _ in range(0, frames, 2 * source_frames - 2):
            for frame in read_frames(self.path, self.fps, 0, min(source_frames, frames)):
                yield frame.picture
            if source_frames > 2:
                for frame in read_frames_backwards(self.path, self.fps, 1, source_frames - 1):
                    yield frame.picture


def footage_of(path: Path, info: MediaInfo, fps: str) -> Footage:
    """How a probed file is played: at its own rate (`fps` "source") or at 25 frames a second; a picture always at 25."""
    own_rate = fps == "source" and not info.is_picture
    return Footage(path, info.fps if own_rate else STILL_FPS, info.width, info.height, info.is_picture)


@dataclass(frozen=True)
class References:
    """What the networks copy the person from.

    pose (N, 2, 74) and content (N, 2, 57): landmarks, float32, 0..1 of the box. faces and sketches (M, S, S, 3): uint8 BGR.
    """

    pose: FloatArray
    content: FloatArray
    faces: Picture
    sketches: Picture


@dataclass(frozen=True)
class Template:
    """What pass one found in F frames. Values of a frame without a face are NaN (landmarks) or 0 (boxes).

    pose (F, 2, 74), content (F, 2, 57): float32, 0..1 of the frame's box. boxes (F, 4): float64, x0 y0 x1 y1 in source pixels.
    tracks (F,): int32, the same number while one face is followed, NO_TRACK without a face.
    """

    pose: FloatArray
    content: FloatArray
    boxes: npt.NDArray[np.float64]
    tracks: npt.NDArray[np.int32]
    references: References

    @property
    def frames(self) -> int:
        """Frames that were looked at."""
        return len(self.tracks)


@dataclass(frozen=True)
class FrameFace:
    """The face of one frame, in the networks' terms."""

    box: Box
    track: int
    pose: FloatArray
    content: FloatArray


@dataclass(frozen=True)
class Candidate:
    """A face crop that may become a reference."""

    pose: FloatArray
    content: FloatArray
    lip_opening: float
    crop_size: tuple[float, float]
    face: Picture


class Candidates:
    """At most CANDIDATES face crops, evenly spread over however many frames come: when it is full, every second goes."""

    def __init__(self, most: int = CANDIDATES) -> None:
        self.most = most
        self.kept: list[Candidate] = []
        self._stride = 1
        self._seen = 0

    def offer(self, make: Callable[[], Candidate]) -> None:
        """Keeps a candidate when its turn has come; `make` is called only then."""
        if self._seen % self._stride == 0:
            if len(self.kept) == self.most:
                self.kept = self.kept[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self.kept.append(make())
        self._seen += 1


class TemplateMemory:
    """Remembers the template of the last video, so that several speeches for one video look at it once."""

    def __init__(self) -> None:
        self._last: tuple[object, int, Template] | None = None

    def get(self, key: object, frames: int, make: Callable[[], Template]) -> Template:
        """The remembered template when it is of the same key and over the same frames, else what `make` gives.

        A template that ended before the frames it was made for covers its whole video, so it serves any number of frames.
        """
        if self._last is not None:
            last_key, made_for, template = self._last
            if key == last_key and (frames == made_for or (template.frames < made_for and template.frames < frames)):
                return template
        template = make()
        self._last = (key, frames, template)
        return template


def analyse(footage: Footage, frames: int, crop: CropSettings, landmark_references: int, references: int, progress: Progress = silent) -> Template:
    """Follows the face through the first `frames` frames and chooses the references among them.

    Raises MediaError(NO_FACE) when no frame shows a face, and what decoding raises.
    """
    faces: list[FrameFace | None] = []
    candidates = Candidates()
    with FaceMesh() as mesh:
        for frame in follow_faces(footage.frames(frames), mesh.find):
            face = face_of_frame(frame, crop)
            faces.append(face)
            progress(len(faces), None, "frames searched for the face")
            if face is not None and frame.detected:
                candidates.offer(lambda frame=frame, face=face: _candidate(frame.picture, face, crop.size))  # type: ignore[misc]
    if not candidates.kept:
        raise MediaError(Reason.NO_FACE, f"No face was found in {footage.path.name}; give footage of a face seen from the front.")
    return _template(faces, choose_references(candidates.kept, landmark_references, references, crop.size))


def face_of_frame(frame: FaceFrame, crop: CropSettings) -> FrameFace | None:
    """Box and landmarks of a followed frame; None without a face, or with one too small or outside the picture."""
    if frame.points is None or frame.track is None:
        return None
    height, width = frame.picture.shape[:2]
    try:
        box = face_box(frame.points, (height, width), crop)
    except MediaError:  # outside the picture: this frame shows no face
        return None
    if min(box.width, box.height) < SMALLEST_BOX_PX:
        return None
    pose, content = split_points(relative_points(frame.points, box, crop))
    return FrameFace(box, frame.track, pose, content)


def _candidate(picture: Picture, face: FrameFace, size: int) -> Candidate:
    return Candidate(face.pose, face.content, lip_opening(face.content), (face.box.height, face.box.width), crop_face(picture, face.box, size))


def choose_references(candidates: list[Candidate], landmarks: int, pictures: int, size: int) -> References:
    """References at even steps of the candidates sorted by lip opening (contract: Dubbing).

    A picture is not taken twice when there are fewer candidates than asked for: the renderer weighs equal ones as one.
    """
    openings = [candidate.lip_opening for candidate in candidates]
    for_landmarks = [candidates[index] for index in reference_frames(openings, landmarks)]
    for_pictures = [candidates[index] for index in dict.fromkeys(reference_frames(openings, pictures))]
    return References(
        pose=np.stack([candidate.pose for candidate in for_landmarks]),
        content=np.stack([candidate.content for candidate in for_landmarks]),
        faces=np.stack([candidate.face for candidate in for_pictures]),
        sketches=np.stack([draw_sketch(candidate.pose, candidate.content, candidate.crop_size, size) for candidate in for_pictures]),
    )


def _template(faces: Iterable[FrameFace | None], references: References) -> Template:
    found = list(faces)
    pose = np.full((len(found), *references.pose.shape[1:]), np.nan, dtype=np.float32)
    content = np.full((len(found), *references.content.shape[1:]), np.nan, dtype=np.float32)
    boxes = np.zeros((len(found), 4), dtype=np.float64)
    tracks = np.full(len(found), NO_TRACK, dtype=np.int32)
    for index, face in enumerate(found):
        if face is not None:
            pose[index], content[index], tracks[index] = face.pose, face.content, face.track
            boxes[index] = dataclasses.astuple(face.box)
    return Template(pose, content, boxes, tracks, references)
