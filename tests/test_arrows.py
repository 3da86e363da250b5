"""The floors of the house: imports point down only (read from the source, and from what really gets loaded)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("schemas", "models", "tasks", "ray_jobs", "dags")
MEDIA_LIBRARIES = {"cv2", "mediapipe", "dlib", "librosa", "av", "soundfile"}
MAY_NOT_IMPORT = {
    "schemas": {"models", "tasks", "ray_jobs", "dags", "torch", "ray", "airflow"} | MEDIA_LIBRARIES,
    "models": {"tasks", "ray_jobs", "dags", "ray", "airflow"} | MEDIA_LIBRARIES,
    "tasks": {"ray_jobs", "dags", "ray", "airflow"},
    "ray_jobs": {"dags", "airflow"},
    "dags": {"models", "tasks", "ray_jobs", "ray", "torch"} | MEDIA_LIBRARIES,
}
GPU_MODULES = (
    "models",
    "models.checkpoint",
    "models.losses",
    "models.fast_landmark_generator",
    "models.fast_renderer",
    "models.folding",
    "models.iplap",
    "models.discriminator",
    "tasks.training.landmark_generator",
    "tasks.training.renderer",
    "tasks.training.publish",
    "tasks.evaluation.face_measures",
    "tasks.evaluation.leak",
    "tasks.evaluation.closures",
    "tasks.dubbing.generate",
    "tasks.free_memory",
    "tasks.corpus.store",
    "tasks.faces",
)
"""What runs on a GPU machine, which has torch, numpy, cv2, pyarrow, fsspec, safetensors, pydantic and yaml, no more."""
ABSENT_ON_GPU_MACHINES = (
    "mediapipe",
    "dlib",
    "librosa",
    "ray",
    "airflow",
    "av",
    "rich",
    "typer",
    "soundfile",
    "jinja2",
    "PIL",
    "tensorboard",
    "lpips",
    "pytorch_fid",
    "torchvision",
    "skimage",
    "scipy",
)


def imported_names(path: Path) -> set[str]:
    """First parts of all modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down(floor: str) -> None:
    against = {str(path.relative_to(ROOT)): names for path in sorted((ROOT / floor).rglob("*.py")) if (names := imported_names(path) & MAY_NOT_IMPORT[floor])}
    assert against == {}


def test_gpu_code_loads_without_media_libraries() -> None:
    block = f"import importlib, sys\nfor name in {ABSENT_ON_GPU_MACHINES!r}: sys.modules[name] = None\n"
    load = f"for name in {GPU_MODULES!r}: importlib.import_module(name)"
    loaded = subprocess.run([sys.executable, "-c", block + load], cwd=ROOT, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr[-2000:]


def test_no_file_has_a_name_that_says_nothing() -> None:
    empty_names = {"utils", "util", "helpers", "common", "misc"}
    assert [str(path) for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if path.stem in empty_names] == []
