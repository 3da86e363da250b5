"""Pass one over a video: its shots, where the dubbed face is in every frame, and the references that the networks copy the person from.

No full picture is kept: landmarks and boxes of every frame (about a kilobyte a frame, in temporary files where they are many), and at
most a thousand face crops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError, SettingsError, StoreError
from schemas.face_points import CONTENT_POSITIONS, POSE_POSITIONS
from schemas.locations import without_secrets
from schemas.reasons import Reason
from schemas.settings import CropSettings, CuttingSettings, DubSettings
from tasks.audio import waveform_blocks
from tasks.corpus.scenes import cut_finder
from tasks.dubbing.appearance import Look, look_of
from tasks.dubbing.face_choice import FollowedFace, lips_follow, person_of
from tasks.dubbing.followed import SMALLEST_BOX_PX, FollowedFaces, face_of_frame
from tasks.dubbing.footage import Footage, Picture
from tasks.dubbing.frame_arrays import array_of
from tasks.dubbing.reference_choice import Candidate, References, choose_references, fit_ones, fit_to_copy
from tasks.dubbing.timeline import NO_TRACK
from tasks.faces.crop import Points
from tasks.faces.detect import FaceFinder
from tasks.faces.head_angles import head_angles
from tasks.faces.smoothing import BOX_WINDOW_S, CONTENT_WINDOW_S, HEAD_WINDOW_S, pieces_of, smoothed
from tasks.faces.tracks import FaceFrame, follow_all_faces
from tasks.media.decode import read_picture
from tasks.media.probe import probe
from tasks.places import local_copy
from tasks.progress import Progress, silent

FloatArray = npt.NDArray[np.float32]
BoxArray = npt.NDArray[np.float64]

FINDING = CuttingSettings(detector="both", mesh="tracking", max_faces=4)
"""How faces are found: where MediaPipe alone misses one, inside the box that it had, or dlib's (LIP_MASK). FaceMesh follows a face as it
was made for: where it looks at each picture by itself it takes the chin for the mouth of a head that leans back, and jitters twice as
much (5.0 px against 1.1 in one frame of 20); nothing comes later by it, neither heads nor lips."""
MAX_GAP_FRAMES = 5
"""Longest gap in which a face is interpolated; longer ones are passed through."""


@dataclass(frozen=True)
class Template:
    """What pass one found in F frames. Values of a frame without the face are NaN (landmarks, yaw) or 0 (boxes, face_px).

    pose (F, 2, 74), content (F, 2, 57): float32, 0..1 of the frame's box, smoothed. boxes (F, 4): float64, x0 y0 x1 y1 in source pixels.
    tracks (F,): int32, the same number while the face is followed, NO_TRACK without it. shots (F,): int32, grows at each cut.
    yaw_deg (F,): float32, how far the head is turned to its own left. face_px (F,): float32, the box's shorter side.
    detected (F,): False where the face was interpolated, or is not there. visibility (F,): float32, 0..1 of the mouth (`covered`); 1 without a face.
    """

    pose: FloatArray
    content: FloatArray
    boxes: BoxArray
    tracks: npt.NDArray[np.int32]
    references: References
    shots: npt.NDArray[np.int32]
    yaw_deg: FloatArray
    face_px: FloatArray
    detected: npt.NDArray[np.bool_]
    visibility: FloatArray

    @property
    def frames(self) -> int:
        """Frames that were looked at."""
        return len(self.tracks)


class TemplateMemory:
    """Remembers the template of the last video, so that several speeches for one video look at it once."""

    def __init__(self) -> None:
        self._last: tuple[object, int, Template] | None = None

    def get(self, key: object, frames: int, make: Callable[[], Template]) -> Template:
        """The remembered template when it is of the same key and serves so many frames, else what `make` gives.

        One serves as many frames as it was made for and fewer; one that ended before them covers its whole video, and serves any number.
        """
        if self._last is not None:
            last_key, made_for, template = self._last
            if key == last_key and (made_for >= frames or template.frames < made_for):
                return template
        template = make()
        self._last = (key, frames, template)
        return template


class FirstPass:
    """All faces of the first `frames` frames of a video, followed once for all who are dubbed in it."""

    def __init__(self, footage: Footage, frames: int, crop: CropSettings, progress: Progress = silent) -> None:
        """Raises MediaError(NO_FACE) when no frame shows a face, and what decoding raises."""
        self._footage = footage
        self._followed = FollowedFaces(crop, float(footage.fps))
        self._shots = _follow(footage, frames, self._followed, progress)
        if not self._followed.by_track:
            raise MediaError(Reason.NO_FACE, f"No face was found in {footage.path.name}; give footage of a face seen from the front.")

    def template(self, settings: DubSettings) -> Template:
        """Takes the person that `settings.face` names, and chooses the references.

        Raises MediaError(NO_FACE) when it is not there, SettingsError when `face` means nothing.
        """
        footage, followed = self._footage, self._followed
        person = _person(footage, followed, settings.face)
        candidates = followed.candidates.of(person)
        if not candidates:
            raise MediaError(Reason.NO_FACE, f"The face to be dubbed is seen too briefly in {footage.path.name}; name another one by `face`.")
        return _Chosen(footage, followed, person, settings).template(self._shots, candidates)


def analyse(footage: Footage, frames: int, crop: CropSettings, settings: DubSettings, progress: Progress = silent) -> Template:
    """The template of one person: `FirstPass` and `FirstPass.template`, with their errors."""
    return FirstPass(footage, frames, crop, progress).template(settings)


def _follow(footage: Footage, frames: int, followed: FollowedFaces, progress: Progress) -> npt.NDArray[np.int32]:
    """Takes in the faces of all frames; gives the shot of each."""
    finds_cuts = cut_finder(FINDING.scene_threshold)
    cuts: list[bool] = []

    def is_cut(picture: Picture) -> bool:
        cuts.append(finds_cuts(picture))
        return cuts[-1]

    with FaceFinder(FINDING) as finder:
        shot = 0
        for index, faces in enumerate(follow_all_faces(footage.frames(frames), finder, is_cut, MAX_GAP_FRAMES)):
            shot += cuts[index]
            for face in faces:
                followed.add(face, shot)
            progress(index + 1, None, "frames searched for the face")
    return np.cumsum(cuts, dtype=np.int32)


def _person(footage: Footage, followed: FollowedFaces, choice: str) -> list[int]:
    """The tracks of the person to be dubbed."""
    sound = _Sound(footage, followed)
    return person_of(list(followed.by_track.values()), choice, sound.follows, lambda: pictured(choice, followed.crop), footage.path.name)


class _Sound:
    """The video's own sound, read when it is first asked for."""

    def __init__(self, footage: Footage, followed: FollowedFaces) -> None:
        self._footage, self._followed = footage, followed
        self._waveform: FloatArray | None = None

    def follows(self, face: FollowedFace) -> float:
        """How well a face's lips go with it in the frames that decide, -1..1; 0 where there is no sound."""
        if self._waveform is None:
            info = probe(self._footage.path)
            heard = waveform_blocks(self._footage.path, info.start_s) if info.has_audio else iter(())
            self._waveform = array_of(heard, (), np.float32)
        openings = self._followed.openings(self._followed.rows([face.track])[: face.frames])
        fps = float(self._footage.fps)
        return lips_follow(openings, face.first / fps, fps, self._waveform)


def pictured(choice: str, crop: CropSettings) -> Look:
    """The look of the person in a picture at a path or URI; SettingsError when it cannot be read or shows no face."""
    shown = without_secrets(choice)
    try:
        with local_copy(choice) as path, FaceFinder(FINDING) as finder:
            picture = read_picture(path)
            found = finder.find(picture)
    except (OSError, MediaError, StoreError) as error:
        sentence = f"`face` must be largest, speaking, left, right, a number or a picture of the person, and {shown} is none that can be read."
        raise SettingsError(sentence) from error
    face = face_of_frame(FaceFrame(0, 0.0, picture, found[0], detected=True, track=0), crop) if found else None
    if face is None:
        raise SettingsError(f"There is no face in {shown}, which is to show the person to be dubbed.")
    return look_of(face.crop(picture, crop.size), face.pose, face.content, face.crop_size)


@dataclass(frozen=True)
class _Piece:
    """Consecutive frames of one track, smoothed: points (n, 131, 2) and boxes (n, 4) in source pixels."""

    frames: npt.NDArray[np.int64]
    points: Points
    boxes: BoxArray

    @property
    def relative(self) -> Points:
        """The points as shares of their boxes."""
        corner = self.boxes[:, None, :2]
        return (self.points - corner) / (self.boxes[:, None, 2:] - corner)


class _Chosen:
    """The faces of the person to be dubbed, on their way to a template."""

    def __init__(self, footage: Footage, followed: FollowedFaces, person: list[int], settings: DubSettings) -> None:
        self._footage, self._followed, self._settings = footage, followed, settings
        self._rows = followed.rows(person)

    def template(self, shots: npt.NDArray[np.int32], candidates: list[Candidate]) -> Template:
        """The template over all frames; shots (F,). candidates: what references are chosen from."""
        frames = len(shots)
        boxes, yaw_deg = np.zeros((frames, 4)), np.full(frames, np.nan, dtype=np.float32)
        landmarks = array_of(self._landmarks(frames, boxes, yaw_deg), (2, len(POSE_POSITIONS) + len(CONTENT_POSITIONS)), np.float32)
        where = self._followed.frames(self._rows)
        tracks, detected = np.full(frames, NO_TRACK, dtype=np.int32), np.zeros(frames, dtype=bool)
        tracks[where], detected[where] = self._followed.tracks(self._rows), self._followed.detected(self._rows)
        visibility = np.ones(frames, dtype=np.float32)
        visibility[where] = self._followed.visibility(self._rows)
        fit = fit_ones(candidates, fit_to_copy(visibility, yaw_deg))
        references = choose_references(fit, self._settings.landmark_references, self._settings.references, self._followed.crop.size)
        return Template(
            pose=landmarks[:, :, : len(POSE_POSITIONS)],
            content=landmarks[:, :, len(POSE_POSITIONS) :],
            boxes=boxes,
            tracks=tracks,
            references=references,
            shots=shots,
            yaw_deg=yaw_deg,
            face_px=np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]).astype(np.float32),
            detected=detected,
            visibility=visibility,
        )

    def _landmarks(self, frames: int, boxes: BoxArray, yaw_deg: FloatArray) -> Iterator[FloatArray]:
        """Pose and content, (n, 2, 131), of all frames in order; fills in boxes and yaw on the way."""
        done = 0
        for piece in self._pieces():
            yield from _nothing(int(piece.frames[0]) - done)
            boxes[piece.frames] = piece.boxes
            yaw_deg[piece.frames] = head_angles(piece.points)[:, 0]
            yield np.swapaxes(piece.relative[:, (*POSE_POSITIONS, *CONTENT_POSITIONS)], 1, 2).astype(np.float32)
            done = int(piece.frames[-1]) + 1
        yield from _nothing(frames - done)

    def _pieces(self) -> Iterator[_Piece]:
        """All stretches of one track without a break, in pieces."""
        where, tracks = self._followed.frames(self._rows), self._followed.tracks(self._rows)
        breaks = np.flatnonzero((np.diff(where) != 1) | (np.diff(tracks) != 0)) + 1
        for stretch in np.split(self._rows, breaks):
            for taken, kept in pieces_of(len(stretch), float(self._footage.fps)):
                yield self._piece(stretch[taken], kept)

    def _piece(self, rows: npt.NDArray[np.int64], kept: slice) -> _Piece:
        """The kept part of a stretch, smoothed by what lies around it."""
        points = self._followed.points(rows)
        calm = np.empty_like(points)
        for positions, window_s in ((POSE_POSITIONS, HEAD_WINDOW_S), (CONTENT_POSITIONS, CONTENT_WINDOW_S)):
            calm[:, positions] = smoothed(points[:, positions], float(self._footage.fps), self._settings.smoothing, window_s)
        boxes = smoothed(self._followed.boxes(rows), float(self._footage.fps), self._settings.smoothing, BOX_WINDOW_S)
        return _Piece(self._followed.frames(rows)[kept], calm[kept], self._in_picture(boxes[kept]))

    def _in_picture(self, boxes: BoxArray) -> BoxArray:
        """Smoothed boxes as pictures are cut by them: in whole pixels (but those of the original's training), inside of the picture."""
        if self._followed.crop.padding != "iplap-train":
            boxes = np.round(boxes)
        size = np.array([self._footage.width, self._footage.height], dtype=np.float64)
        corners = np.clip(boxes[:, :2], 0, size - SMALLEST_BOX_PX)
        return np.concatenate([corners, np.clip(boxes[:, 2:], corners + SMALLEST_BOX_PX, size)], axis=1)


def _nothing(frames: int) -> Iterator[FloatArray]:
    """NaN for frames without the face, a piece at a time."""
    for first in range(0, frames, 1000):
        yield np.full((min(1000, frames - first), 2, len(POSE_POSITIONS) + len(CONTENT_POSITIONS)), np.nan, dtype=np.float32)
