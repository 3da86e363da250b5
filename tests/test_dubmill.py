"""The command line: every command explains itself; what a person can mend is one sentence and exit code 1."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from models.checkpoint import save_checkpoint
from models.landmark_generator import LandmarkGenerator
from schemas.checkpoints import Ancestor, CheckpointHeader, LandmarkGeneratorSize
from schemas.settings import CropSettings, FinetuneSettings, LandmarkGeneratorTraining, RendererTraining, Settings, SnapshotSettings, check_settings

ROOT = Path(__file__).parents[1]
COMMANDS = (
    ["ingest"],
    ["corpus", "stats"],
    ["corpus", "show"],
    ["corpus", "verify"],
    ["corpus", "snapshot"],
    ["corpus", "export"],
    ["corpus", "import"],
    ["corpus", "forget"],
    ["corpus", "gc"],
    ["train", "landmark-generator"],
    ["train", "renderer"],
    ["finetune"],
    ["publish"],
    ["checkpoint", "import"],
    ["checkpoint", "info"],
    ["check"],
    ["dub"],
    ["template", "warm"],
    ["template", "list"],
    ["template", "drop"],
    ["bulk-dub"],
    ["evaluate"],
    ["inspect"],
    ["lineage"],
    ["settings"],
    ["report", "corpus"],
    ["report", "training"],
    ["report", "evaluation"],
    ["report", "dubs"],
    ["demo"],
)


def dubmill(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "dubmill.py"), *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT)


def assert_one_sentence(run: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert lines[-1].startswith("dubmill: ")
    for word in words:
        assert word in lines[-1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: list[str]) -> None:
    run = dubmill(*command, "--help")
    assert run.returncode == 0
    assert f"Example: dubmill {' '.join(command)}" in run.stdout


@pytest.mark.parametrize("group", [[], *([name] for name in sorted({command[0] for command in COMMANDS if len(command) > 1}))], ids=" ".join)
def test_a_list_of_commands_ends_no_sentence_in_the_middle(group: list[str]) -> None:
    _, _, listed = dubmill(*group, "--help").stdout.partition("Commands:")
    assert listed
    assert "..." not in listed


@pytest.mark.parametrize(
    ("command", "kind", "shown"),
    [
        (["train", "landmark-generator"], LandmarkGeneratorTraining, ("steps", "batch_size", "preset")),
        (["train", "renderer"], RendererTraining, ("steps", "batch_size", "preset", "size")),
        (["finetune"], FinetuneSettings, ("steps",)),
    ],
)
def test_help_shows_the_defaults_of_the_settings(command: list[str], kind: type[Settings], shown: tuple[str, ...]) -> None:
    explained, _, _ = dubmill(*command, "--help").stdout.partition("Example:")
    options = " ".join(explained.split()).split(" --")
    for name in shown:
        [option] = [one for one in options if one.startswith(f"{name.replace('_', '-')} ")]
        assert f"[default: {kind.model_fields[name].default}]" in option


def test_a_checkpoint_says_in_words_what_it_is(tmp_path: Path) -> None:
    location = tmp_path / "landmark-generator.safetensors"
    header = CheckpointHeader(
        kind="landmark-generator", architecture=LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32), crop=CropSettings(),
        ancestors=(Ancestor(version="0a1b", origin="imported", step=3), Ancestor(version="2c3d", origin="trained", step=7, snapshot="first")),
    )  # fmt: skip
    save_checkpoint(str(location), LandmarkGenerator(header.architecture), header)
    run = dubmill("checkpoint", "info", location)
    assert run.returncode == 0, run.stderr
    assert "crop: padding 0.08, anchor upper-face, size 128" in run.stdout.splitlines()
    assert "perceptual weights: none" in run.stdout.splitlines()
    ancestors = next(line for line in run.stdout.splitlines() if line.startswith("ancestors: "))
    assert ancestors.startswith("ancestors: version 0a1b, origin imported, step 3, snapshot none")
    assert "; version 2c3d, origin trained, step 7, snapshot first" in ancestors
    assert not re.search(r"[{}']|None", run.stdout)
    assert json.loads(dubmill("checkpoint", "info", location, "--json").stdout)["perceptual_weights"] is None


def test_a_missing_option_is_named() -> None:
    assert_one_sentence(dubmill("ingest", "somewhere"), "store is not given")


def test_a_fault_is_named_as_the_person_named_the_setting(tmp_path: Path) -> None:
    (tmp_path / "dub.yaml").write_text("fps: 30")
    run = dubmill("dub", "v.mp4", "s.wav", "--out", "o.mp4", "--references", "0", "--settings", tmp_path / "dub.yaml")
    assert_one_sentence(run, "--landmark-generator is not given", "--renderer is not given", "; fps: Input", "--references: Input")
    assert_one_sentence(dubmill("finetune", "--out", tmp_path), "--from is not given")
    assert_one_sentence(dubmill("bulk-dub", "--out", tmp_path), "; jobs is not given")
    assert_one_sentence(dubmill("check", "v.mp4", "--references", "0"), "--references: Input")


def test_an_option_that_is_a_setting_is_told_its_place() -> None:
    run = dubmill("bulk-dub", "jobs.csv", "--out", "o", "--references", "3")
    assert run.returncode == 2
    assert "write `references: …` into a file for --settings, or make it a column of the list" in run.stderr
    assert dubmill("bulk-dub", "jobs.csv", "--canary=3").stderr.endswith("write `canary: …` into a file for --settings.\n")
    assert "write `sharpening: …` into a file for --settings" in dubmill("dub", "--sharpening", "2").stderr
    assert "No such option: --renderex (Possible options: " in dubmill("dub", "--renderex", "2").stderr


@pytest.mark.parametrize("command", ["dub", "bulk-dub"])
def test_help_says_which_options_a_dub_cannot_do_without(command: str) -> None:
    explained = " ".join(dubmill(command, "--help").stdout.split())
    for said in ("Checkpoint of the landmark generator.", "Checkpoint of the renderer."):
        assert f"{said} [required, unless in --settings]" in explained


def test_a_missing_store_is_one_sentence(tmp_path: Path) -> None:
    assert_one_sentence(dubmill("corpus", "stats", tmp_path / "nowhere"), "nowhere")


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    assert_one_sentence(dubmill("checkpoint", "info", tmp_path / "absent.safetensors"), "absent.safetensors")


def test_a_settings_file_fills_in_and_options_win(tmp_path: Path) -> None:
    settings = tmp_path / "ingest.yaml"
    empty = tmp_path / "empty folder"
    empty.mkdir()
    settings.write_text(json.dumps({"store": str(tmp_path / "from-file"), "sources": [str(tmp_path / "absent")]}))
    run = dubmill("ingest", empty, "--settings", settings, "--json")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert summary["store"] == str(tmp_path / "from-file")
    assert summary["sources"] == 0


def test_a_printed_settings_file_is_one_that_can_be_used(tmp_path: Path) -> None:
    printed = dubmill("settings", "snapshot").stdout
    assert "# shorter side of the face box" in printed
    assert check_settings(SnapshotSettings, yaml.safe_load(printed)) == SnapshotSettings()


def test_an_unknown_setting_is_told_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "ingest.yaml").write_text("detectr: both")
    assert_one_sentence(dubmill("ingest", tmp_path, "--store", tmp_path / "s", "--settings", tmp_path / "ingest.yaml"), "detectr is no setting", "detector")


def test_a_cluster_is_an_address(tmp_path: Path) -> None:
    assert_one_sentence(dubmill("ingest", tmp_path, "--store", tmp_path / "s", "--ray", "foo"), "not foo")


def test_a_folder_without_footage_is_said(tmp_path: Path) -> None:
    run = dubmill("ingest", tmp_path, "--store", tmp_path / "s")
    assert run.returncode == 0
    assert "No footage was found" in run.stderr
