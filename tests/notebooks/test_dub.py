"""The notebook: it is written in two languages, holds no outputs, and its cells run in order in a process of their own."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.dubbing.stamp import read_dub_stamp
from tasks.media.probe import probe
from tests.footage import make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks

ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "notebooks/dub.ipynb").read_text(encoding="utf-8"))
CHINESE, ENGLISH = re.compile(r"[\u4e00-\u9fff]{4,}"), re.compile(r"\b[a-z]{3,} [a-z]{2,}")


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def execute(folder: Path, **variables: str) -> str:
    """Runs the code cells as a kernel does, one after the other in one namespace; what they print."""
    script = folder / "cells.py"
    script.write_text("\n\n".join(cells("code")), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STEPS": "1", "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run([sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_text_is_in_english_and_chinese_and_no_output_is_kept() -> None:
    assert NOTEBOOK["nbformat"] == 4
    for text in cells("markdown"):
        assert CHINESE.search(text), text
        assert ENGLISH.search(text), text
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_cells_are_plain_python_without_a_shell() -> None:
    for text in cells("code"):
        ast.parse(text)  # a magic is no Python
        assert "shell=True" not in text


def test_a_video_and_weights_of_ones_own_are_dubbed_with_a_voice_that_the_notebook_makes(tmp_path: Path) -> None:
    video = make_talking_clip(tmp_path / "my own clip.mp4", seconds=0.6, size=(512, 512))
    settings = write_random_networks(tmp_path)
    own = {"VIDEO": str(video), "LANDMARK_GENERATOR": settings.landmark_generator, "RENDERER": settings.renderer}
    printed = execute(tmp_path, **own, TEXT="Hello.")
    out = tmp_path / "dubmill-notebook/dubbed.mp4"
    assert read_dub_stamp(out)["synthetic"] is True
    assert probe(out).has_audio
    assert str(video) in printed
    assert "grade:" in printed
    assert "synthetic: True" in printed
    assert not (tmp_path / "dubmill-notebook/corpus").exists()


@pytest.mark.soak
def test_without_files_of_ones_own_the_notebook_makes_all_it_needs_and_dubs(tmp_path: Path) -> None:
    execute(tmp_path)
    assert read_dub_stamp(tmp_path / "dubmill-notebook/dubbed.mp4")["synthetic"] is True


def test_a_fault_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"RuntimeError: .*absent\.mp4 is not there"):
        execute(tmp_path, VIDEO=str(tmp_path / "absent.mp4"), SPEECH="s.wav", LANDMARK_GENERATOR="l", RENDERER="r")
