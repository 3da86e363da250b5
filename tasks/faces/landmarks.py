"""Landmarks of faces by MediaPipe FaceMesh (contract: Landmarks)."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import ORDER
from tasks.faces.quiet import filtered_stderr
from tasks.faces.tracks import overlap

Points = npt.NDArray[np.float64]

MINIMUM_CONFIDENCE = 0.5
BLANK_SIZE = (16, 16, 3)
VISIBLE_SHARE = 0.5
"""Share of the points that must lie in the picture: FaceMesh guesses those outside, and a crop needs most of a face."""
DUPLICATE_OVERLAP = 0.5
"""Intersection over union from which on two findings are one face: FaceMesh's own detector may find it twice, two heads never overlap so."""
GRAPH = "modules/face_landmark/face_landmark_front_cpu.binarypb"
"""FaceMesh's graph in MediaPipe's wheel."""
DETECTION_THRESHOLD = "facedetectionshortrangecpu__facedetectionshortrange__facedetection__TensorsToDetectionsCalculator.min_score_thresh"
TRACKING_THRESHOLD = "facelandmarkcpu__ThresholdingCalculator.threshold"
START_UP_NOISE = re.compile(rb"^(INFO: Created TensorFlow Lite|WARNING: All log messages before absl|[IW]\d{4} .*\.cc:\d+\] )")
"""Lines that MediaPipe's compiled parts print past every log setting, and that no user can act on."""


class FaceMesh:
    """Finds the landmarks of faces in pictures.

    static: each picture by itself, no memory of the one before. tracking: looks first where the faces of the picture before
    were, and for others only while fewer than `max_faces` are known; `forget` ends that. A context manager; leaving it frees
    the networks. Works on one core; for one thread at a time.
    """

    def __init__(self, mode: Literal["static", "tracking"] = "static", max_faces: int = 1) -> None:
        self._tracks = mode == "tracking"
        with filtered_stderr(START_UP_NOISE):
            self._mesh: Any = _one_thread_solution(self._tracks, max_faces)
            self._await_parts()
        self._is_warm = False

    def find(self, picture: npt.NDArray[np.uint8]) -> Points | None:
        """Landmarks of the most certain face of a BGR picture (H, W, 3) of any size, None without one.

        Returns (131, 2) float64, x then y in source pixels, in `schemas.face_points.ORDER`. A face reaching out of the picture
        has points outside of it; one with less than VISIBLE_SHARE of its points inside counts as none.
        """
        meshes = self._process(picture)
        points = _points(meshes[0], picture) if meshes else None
        return points if points is not None and _is_visible(points, picture) else None

    def find_all(self, picture: npt.NDArray[np.uint8]) -> list[Points]:
        """The landmarks of each face as `find` gives them, most certain first, no face twice; at most `max_faces`."""
        faces = (_points(mesh, picture) for mesh in self._process(picture) or ())
        return distinct_faces([points for points in faces if _is_visible(points, picture)])

    def forget(self) -> None:
        """The next picture has nothing to do with the one before: a cut, or another source. Costs about 20 milliseconds when tracking."""
        if self._tracks and self._mesh is not None:
            with filtered_stderr(START_UP_NOISE):
                self._mesh.reset()
                self._await_parts()
            self._is_warm = False

    def close(self) -> None:
        """Frees the networks; further calls do nothing."""
        if self._mesh is not None:
            self._mesh.close()
            self._mesh = None

    def _await_parts(self) -> None:
        """Its parts open in threads of their own, and speak up there: a picture without a face waits for them."""
        self._mesh.process(np.zeros(BLANK_SIZE, dtype=np.uint8))

    def _process(self, picture: npt.NDArray[np.uint8]) -> Any:
        if self._mesh is None:
            raise ValueError("this FaceMesh is closed")
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if self._is_warm:
            return self._mesh.process(rgb).multi_face_landmarks
        with filtered_stderr(START_UP_NOISE):  # its parts speak up when first used, the last of them at the first face
            faces = self._mesh.process(rgb).multi_face_landmarks
        self._is_warm = bool(faces)
        return faces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def distinct_faces(faces: Sequence[Points]) -> list[Points]:
    """The faces (131, 2) in their order, without those that overlap an earlier one by DUPLICATE_OVERLAP."""
    kept: list[Points] = []
    for face in faces:
        if all(overlap(face, other) < DUPLICATE_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _points(mesh: Any, picture: npt.NDArray[np.uint8]) -> Points:
    height, width = picture.shape[:2]
    landmarks = mesh.landmark
    return np.array([(landmarks[index].x * width, landmarks[index].y * height) for index in ORDER])


def _is_visible(points: Points, picture: npt.NDArray[np.uint8]) -> bool:
    height, width = picture.shape[:2]
    return float(((points >= 0) & (points <= (width, height))).all(axis=1).mean()) >= VISIBLE_SHARE


def _one_thread_solution(tracks: bool, max_faces: int) -> Any:
    """MediaPipe's FaceMesh solution as its own class builds it, but with one thread: that has one a core, which many workers fight over."""
    # Imported late: it takes seconds and brings matplotlib.
    import mediapipe
    from mediapipe.framework import calculator_pb2, thread_pool_executor_pb2
    from mediapipe.python.solution_base import SolutionBase

    class Solution(SolutionBase):
        def process(self, picture: npt.NDArray[np.uint8]) -> Any:
            return super().process({"image": picture})

    graph = calculator_pb2.CalculatorGraphConfig.FromString((Path(mediapipe.__file__).parent / GRAPH).read_bytes())
    pool = graph.executor.add(name="", type="ThreadPoolExecutor")
    pool.options.Extensions[thread_pool_executor_pb2.ThreadPoolExecutorOptions.ext].num_threads = 1
    return Solution(
        graph_config=graph,
        side_inputs={"num_faces": max_faces, "with_attention": True, "use_prev_landmarks": tracks},
        calculator_params={DETECTION_THRESHOLD: MINIMUM_CONFIDENCE, TRACKING_THRESHOLD: MINIMUM_CONFIDENCE},
        outputs=["multi_face_landmarks"],
    )
