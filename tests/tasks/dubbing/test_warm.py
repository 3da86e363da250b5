from pathlib import Path

import pytest

from schemas.errors import CheckpointError, MediaError, SettingsError
from schemas.settings import DubSettings
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Networks
from tasks.dubbing.template_store import TemplateStore
from tasks.dubbing.warm import warm_template, warm_templates


def test_a_video_that_was_warmed_is_not_looked_at_again_whatever_is_said(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = settings.replaced(templates=str(tmp_path / "templates"))
    key = warm_template(str(clip), kept)
    assert [(one.key, one.name) for one in TemplateStore(str(tmp_path / "templates")).list()] == [(key, str(clip))]
    monkeypatch.setattr("tasks.dubbing.dub.FirstPass", lambda *_: pytest.fail("the video was looked at again"))
    assert dub_video(str(clip), str(speech), str(tmp_path / "dub.mp4"), kept, networks=networks).template_was_kept


def test_a_video_that_cannot_be_used_does_not_keep_the_others_from_it(tmp_path: Path, settings: DubSettings, clip: Path) -> None:
    kept = settings.replaced(templates=str(tmp_path / "templates"))
    keys, faults = warm_templates([str(tmp_path / "absent.mp4"), str(clip)], kept)
    assert keys == {str(clip): TemplateStore(str(tmp_path / "templates")).list()[0].key}
    assert [str(fault) for fault in faults] == [f"{tmp_path / 'absent.mp4'} is not there."]


def test_what_cannot_be_warmed_is_said(tmp_path: Path, settings: DubSettings, clip: Path) -> None:
    kept = settings.replaced(templates=str(tmp_path / "templates"))
    with pytest.raises(SettingsError, match="no place for templates"):
        warm_template(str(clip), settings)
    with pytest.raises(MediaError, match="is not there"):
        warm_template(str(tmp_path / "absent.mp4"), kept)
    with pytest.raises(CheckpointError):
        warm_template(str(clip), kept.replaced(renderer=str(clip)))
