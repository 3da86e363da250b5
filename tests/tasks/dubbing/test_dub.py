import itertools
import json
import pkgutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from models.fast_renderer import FastRenderer
from schemas.errors import DubmillError, MediaError, SettingsError, StoreError
from schemas.jobs import Segment
from schemas.reasons import Reason
from schemas.settings import DubSettings
from tasks.dubbing.composite import new_face
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Generator, Networks
from tasks.dubbing.stamp import read_dub_stamp
from tasks.dubbing.template import FirstPass
from tasks.dubbing.timeline import played_frames
from tasks.file_hash import file_hash
from tasks.media.decode import read_frames
from tasks.media.encode import VideoWriter
from tasks.media.probe import probe
from tasks.places import read_bytes, write_bytes
from tests.footage import make_speech, make_talking_clip, portrait
from tests.tasks.dubbing.without_compiler import no_compiler
from tests.tasks.media.spoilt_sound import spoil_sound

NTSC_FILM = Fraction(24000, 1001)
Dub = Callable[..., object]


def pictures(path: Path, fps: Fraction | int = 25) -> list[np.ndarray]:
    return [frame.picture for frame in read_frames(path, fps)]


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def test_a_short_video_is_dubbed_forth_and_back(tmp_path: Path, settings: DubSettings, networks: Networks) -> None:
    source = make_talking_clip(tmp_path / "a portrait.mp4", seconds=0.4, size=(161, 203))
    speech = make_speech(tmp_path / "说话.wav", seconds=0.99)
    out = tmp_path / "new folder" / "dub.mp4"
    summary = dub_video(str(source), str(speech), str(out), settings, networks=networks)
    info = probe(out)
    assert (summary.frames, summary.dubbed_frames, summary.fps, summary.duration_s) == (25, 25, "25", 1.0)
    assert (info.width, info.height, info.fps, info.video_codec, info.audio_codec) == (161, 203, 25, "h264", "aac")
    assert set(summary.seconds_by_stage) == {"analyse", "landmarks", "decode", "sketch", "render", "composite", "encode", "wait"}
    shown, original = pictures(out), pictures(source)
    assert len(shown) == 25
    for picture, index in zip(shown, played_frames(25, 10), strict=True):
        assert difference(picture[:60], original[index][:60]) < 3  # above the face: the source
    assert difference(shown[0][100:150, 50:110], original[0][100:150, 50:110]) > 5  # the mouth: not the source's


@pytest.mark.parametrize(("setting", "fps", "frames"), [("source", NTSC_FILM, 18), ("25", Fraction(25), 19)])
def test_other_rates_keep_the_length_of_the_speech(tmp_path: Path, settings: DubSettings, networks: Networks, setting: str, fps: Fraction, frames: int) -> None:
    source = make_talking_clip(tmp_path / "film.mp4", seconds=0.5, fps=NTSC_FILM)
    speech = make_speech(tmp_path / "speech.wav", seconds=0.76)
    summary = dub_video(str(source), str(speech), str(tmp_path / "dub.mp4"), settings.replaced(fps=setting), networks=networks)
    assert summary.frames == summary.dubbed_frames == frames == round(fps * Fraction(76, 100))
    assert probe(tmp_path / "dub.mp4").fps == fps
    assert len(pictures(tmp_path / "dub.mp4", fps)) == frames


def test_a_still_picture_speaks(tmp_path: Path, settings: DubSettings, networks: Networks, speech: Path) -> None:
    cv2.imwrite(str(tmp_path / "portrait.png"), portrait((200, 200)))
    summary = dub_video(str(tmp_path / "portrait.png"), str(speech), str(tmp_path / "dub.mp4"), settings, networks=networks)
    assert (summary.frames, summary.dubbed_frames, summary.fps) == (12, 12, "25")
    assert difference(pictures(tmp_path / "dub.mp4")[5][:60], portrait((200, 200))[:60]) < 3


def test_frames_without_a_face_show_the_source(tmp_path: Path, settings: DubSettings, networks: Networks, speech: Path) -> None:
    source = make_talking_clip(tmp_path / "gap.mp4", seconds=0.6, hidden_frames=range(3, 10))
    summary = dub_video(str(source), str(speech), str(tmp_path / "dub.mp4"), settings, networks=networks)
    assert (summary.frames, summary.dubbed_frames) == (12, 5)
    original = pictures(source)
    for index, picture in enumerate(pictures(tmp_path / "dub.mp4")):
        assert (difference(picture, original[index]) < 1) == (3 <= index < 10)


def test_what_was_not_dubbed_is_said_with_its_reason(tmp_path: Path, settings: DubSettings, networks: Networks, speech: Path) -> None:
    source = make_talking_clip(tmp_path / "gap.mp4", seconds=0.6, hidden_frames=range(3, 10))
    summary = dub_video(str(source), str(speech), str(tmp_path / "dub.mp4"), settings, networks=networks)
    reasons = {stretch.reason for stretch in summary.source_shown}
    assert reasons == {"no-face"}
    assert summary.source_shown[0].start_s <= 0.12
    assert (len(summary.confidence), summary.worst[0].second) == (1, 0)


def test_with_a_cut_the_video_begins_again(tmp_path: Path, settings: DubSettings, networks: Networks) -> None:
    source = make_talking_clip(tmp_path / "short.mp4", seconds=0.4)
    out = tmp_path / "dub.mp4"
    dub_video(str(source), str(make_speech(tmp_path / "speech.wav", seconds=0.8)), str(out), settings.replaced(loop="cut"), networks=networks)
    shown, original = pictures(out), pictures(source)
    for frame in (0, 9, 10, 19):
        assert difference(shown[frame][:40], original[frame % 10][:40]) < 3


def test_a_face_that_speaks_on_in_the_next_segment_does_not_fall_back_to_its_own_mouth(tmp_path: Path, settings: DubSettings, networks: Networks) -> None:
    source, said = make_talking_clip(tmp_path / "clip.mp4", seconds=1.2), str(make_speech(tmp_path / "said.wav", seconds=1.2))
    halves = (Segment(start_s=0, end_s=0.6, speech=said), Segment(start_s=0.6, end_s=1.2, speech=said))
    summary = dub_video(str(source), said, str(tmp_path / "dub.mp4"), settings, networks=networks, segments=halves)
    assert (summary.dubbed_frames, summary.source_shown) == (30, ())
    apart = (halves[0].replaced(end_s=0.56), halves[1])
    summary = dub_video(str(source), said, str(tmp_path / "dub.mp4"), settings, networks=networks, segments=apart)
    assert [stretch.reason for stretch in summary.source_shown] == ["not-spoken"]


def test_wide_pixels_stay_wide(tmp_path: Path, settings: DubSettings, networks: Networks, speech: Path) -> None:
    square, wide = make_talking_clip(tmp_path / "square.mp4", seconds=0.4), tmp_path / "wide.mp4"
    command = [get_ffmpeg_exe(), "-v", "error", "-i", square, "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=4/3", "-aspect", "16:9", wide]
    subprocess.run(command, check=True)
    assert (aspect := probe(wide).pixel_aspect) != 1
    dub_video(str(wide), str(speech), str(tmp_path / "dub.mp4"), settings, networks=networks)
    assert probe(tmp_path / "dub.mp4").pixel_aspect == aspect


def test_two_people_say_their_own_speeches_for_a_while(tmp_path: Path, settings: DubSettings, networks: Networks) -> None:
    source = make_talking_clip(tmp_path / "clip.mp4", seconds=1.2)
    whole, said = make_speech(tmp_path / "whole.wav", seconds=1.2), make_speech(tmp_path / "said.wav", seconds=0.4)
    segment = Segment(start_s=0.4, end_s=0.8, speech=str(said))
    out = tmp_path / "dub.mp4"
    summary = dub_video(str(source), str(whole), str(out), settings, networks=networks, segments=(segment,))
    assert (summary.frames, summary.dubbed_frames) == (30, 10)
    assert read_dub_stamp(out)["segments_sha256"] == [file_hash(said)]
    assert [(stretch.start_s, stretch.end_s) for stretch in summary.source_shown if stretch.reason == "not-spoken"] == [
        (0.0, 0.56),
        (0.64, 1.2),
    ]  # with the fades
    shown, original = pictures(out), pictures(source)
    changed = [difference(picture, before) > 1 for picture, before in zip(shown, original, strict=True)]
    assert not any(changed[:10] + changed[20:])
    assert all(changed[13:17])
    assert "the source is shown" not in {moment.why for moment in summary.worst}  # it is meant to be, where nobody speaks
    late = segment.replaced(start_s=2.0, end_s=3.0)
    with pytest.raises(SettingsError, match="holds no frame"):
        dub_video(str(source), str(whole), str(tmp_path / "late.mp4"), settings, networks=networks, segments=(late,))


def test_people_who_speak_at_once_share_one_look_at_the_video_and_have_patches_of_their_own(
    tmp_path: Path, settings: DubSettings, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, said = make_talking_clip(tmp_path / "clip.mp4", seconds=0.8), str(make_speech(tmp_path / "said.wav", seconds=0.8))
    looked = []
    monkeypatch.setattr("tasks.dubbing.dub.FirstPass", lambda *given: looked.append(1) or FirstPass(*given))
    spans = ((0.0, 0.4, "largest"), (0.2, 0.8, "left"), (0.6, 0.8, "largest"))
    segments = tuple(Segment(start_s=start, end_s=end, speech=said, face=face) for start, end, face in spans)
    patched = settings.replaced(patch=str(tmp_path / "patch"))
    dub_video(str(source), said, str(tmp_path / "dub.mp4"), patched, networks=networks, segments=segments)
    assert len(looked) == 1
    frames = json.loads((tmp_path / "patch" / "patch.json").read_text())["frames"]
    assert [row["file"] for row in frames if row["frame"] in (2, 7, 12)] == ["000002.png", "000007.png", "000007-1.png", "000012-1.png"]
    assert all((tmp_path / "patch" / row["file"]).is_file() for row in frames)
    dub_video(str(source), str(make_speech(tmp_path / "short.wav", seconds=0.2)), str(tmp_path / "short.mp4"), patched, networks=networks)
    assert len(list((tmp_path / "patch").glob("*.png"))) == 5


@pytest.mark.parametrize("faces", [("largest",), ("largest", "left")])
def test_no_more_frames_are_computed_together_than_pictures_are_held(
    tmp_path: Path, settings: DubSettings, networks: Networks, monkeypatch: pytest.MonkeyPatch, faces: tuple[str, ...]
) -> None:
    """Of 4K pictures eight are held, and a compiled renderer would compute 32 faces for them; it has one size of batch, whoever speaks."""
    translated, translate = [], FastRenderer.translate
    monkeypatch.setattr(FastRenderer, "compile", lambda *_, **__: None)
    monkeypatch.setattr(FastRenderer, "translate", lambda network, faces, *rest: translated.append(len(faces)) or translate(network, faces, *rest))
    monkeypatch.setattr("tasks.dubbing.dub.ROOM_FOR_PICTURES", 3 * 3 * 256 * 256)
    source, said = make_talking_clip(tmp_path / "clip.mp4", seconds=0.4), str(make_speech(tmp_path / "said.wav", seconds=0.4))
    segments = tuple(Segment(start_s=0.0, end_s=0.4, speech=said, face=face) for face in faces)
    compiled = settings.replaced(compile=True, batch_frames=32)
    dub_video(str(source), said, str(tmp_path / "dub.mp4"), compiled, networks=replace(networks, _fast={}), segments=segments)
    assert set(translated) == {2}
    assert len(translated) == 5 * len(faces)


def test_what_cannot_be_done_is_said_before_the_video_is_looked_at(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.dubbing.dub.FirstPass", lambda *_: pytest.fail("work was begun"))
    no_compiler(monkeypatch)
    wrong = (
        ({"precision": "fp16"}, SettingsError),
        ({"compile": True}, SettingsError),
        ({"jaw_predictor": str(speech)}, SettingsError),
        ({"soundtrack": str(tmp_path / "none.wav")}, MediaError),
        ({"soundtrack": "nosuch://bucket/music.wav"}, MediaError),
    )
    for change, error in wrong:
        with pytest.raises(error):
            dub_video(str(clip), str(speech), str(tmp_path / "dub.mp4"), settings.replaced(**change), networks=networks)
    assert list(tmp_path.iterdir()) == []


def test_the_second_dub_of_a_video_skips_the_first_pass(
    tmp_path: Path, settings: DubSettings, clip: Path, speech: Path, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = settings.replaced(templates=str(tmp_path / "templates"))
    first = dub_video(str(clip), str(speech), str(tmp_path / "first.mp4"), kept, networks=networks)
    monkeypatch.setattr("tasks.dubbing.dub.FirstPass", lambda *_: pytest.fail("the video was looked at again"))
    second = dub_video(str(clip), str(speech), str(tmp_path / "second.mp4"), kept, networks=networks)
    assert (first.template_was_kept, second.template_was_kept) == (False, True)
    assert all(np.array_equal(*pair) for pair in zip(pictures(tmp_path / "first.mp4"), pictures(tmp_path / "second.mp4"), strict=True))


def test_an_editor_gets_the_faces_by_themselves(tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path) -> None:
    dub_video(str(clip), str(speech), str(tmp_path / "dub.mp4"), settings.replaced(patch=str(tmp_path / "patch")), networks=networks)
    index = json.loads((tmp_path / "patch" / "patch.json").read_text())
    row = index["frames"][5]
    face = cv2.imread(str(tmp_path / "patch" / row["file"]), cv2.IMREAD_UNCHANGED).astype(float)
    x0, y0, x1, y1 = row["box"]
    alpha = face[:, :, 3:] / 255
    source, dubbed = pictures(clip)[5][y0:y1, x0:x1], pictures(tmp_path / "dub.mp4")[5][y0:y1, x0:x1]
    assert difference(alpha * face[:, :, :3] + (1 - alpha) * source, dubbed) < 4


def test_another_soundtrack_never_moves_the_lips(tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path) -> None:
    music = make_speech(tmp_path / "music.wav", seconds=2.0)
    for name, soundtrack in (("plain", None), ("with music", str(music))):
        dub_video(str(clip), str(speech), str(tmp_path / f"{name}.mp4"), settings.replaced(soundtrack=soundtrack), networks=networks)
    assert all(np.array_equal(*pair) for pair in zip(pictures(tmp_path / "plain.mp4"), pictures(tmp_path / "with music.mp4"), strict=True))
    assert "soundtrack_sha256" in read_dub_stamp(tmp_path / "with music.mp4")


def test_a_dub_says_what_it_is(tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path) -> None:
    out = tmp_path / "dub.mp4"
    dub_video(str(clip), str(speech), str(out), settings, networks=networks)
    stamp = read_dub_stamp(out)
    assert stamp["synthetic"] is True
    assert stamp["tool"] == "dubmill"
    assert (stamp["landmark_generator"], stamp["renderer"]) == (networks.versions["landmark_generator"], networks.versions["renderer"])
    assert len(str(stamp["video_sha256"])) == len(str(stamp["speech_sha256"])) == 64
    with pytest.raises(DubmillError, match="no stamp"):
        read_dub_stamp(clip)
    with pytest.raises(MediaError):
        read_dub_stamp(tmp_path / "none.mp4")


def test_the_same_dub_twice_is_the_same_video(tmp_path: Path, settings: DubSettings, clip: Path, speech: Path) -> None:
    for name in ("first.mp4", "second.mp4"):
        dub_video(str(clip), str(speech), str(tmp_path / name), settings)
    assert all(np.array_equal(*pair) for pair in zip(pictures(tmp_path / "first.mp4"), pictures(tmp_path / "second.mp4"), strict=True))


def test_unusable_inputs_are_said_and_leave_nothing(tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path) -> None:
    text, mute, empty = tmp_path / "text.mp4", tmp_path / "mute.mp4", tmp_path / "empty.png"
    text.write_text("no video")
    make_talking_clip(mute, seconds=0.2, sound=False)
    cv2.imwrite(str(empty), np.full((100, 100, 3), 90, np.uint8))
    for video, sound, reason in (
        (tmp_path / "none.mp4", speech, Reason.MISSING),
        (clip, tmp_path / "none.wav", Reason.MISSING),
        (text, speech, Reason.NOT_MEDIA),
        (speech, speech, Reason.NO_VIDEO),
        (clip, mute, Reason.NO_AUDIO),
        (clip, empty, Reason.NO_AUDIO),
        (empty, speech, Reason.NO_FACE),
    ):
        with pytest.raises(MediaError) as error:
            dub_video(str(video), str(sound), str(tmp_path / "out" / "dub.mp4"), settings, networks=networks)
        assert error.value.reason is reason, str(error.value)
        assert "\n" not in str(error.value)
        assert not any(path.is_file() for path in tmp_path.glob("out/**"))


@pytest.mark.parametrize("place", ["speech", "segment", "soundtrack"])
def test_a_track_without_a_sample_is_said_before_the_video_is_looked_at(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("tasks.dubbing.dub.FirstPass", lambda *_: pytest.fail("work was begun"))
    spoilt = str(spoil_sound(make_talking_clip(tmp_path / "spoilt.mp4", seconds=0.5)))
    segments = (Segment(start_s=0.0, end_s=0.4, speech=spoilt),) if place == "segment" else ()
    asked = settings.replaced(soundtrack=spoilt if place == "soundtrack" else None)
    with pytest.raises(MediaError, match=r"^\S*spoilt.mp4 has a sound track without a single sample that can be decoded\.$") as error:
        dub_video(str(clip), spoilt if place == "speech" else str(speech), str(tmp_path / "dub.mp4"), asked, networks=networks, segments=segments)
    assert error.value.reason is Reason.NO_AUDIO
    assert [path.name for path in tmp_path.iterdir()] == ["spoilt.mp4"]


def test_an_output_that_cannot_be_written_is_said_before_any_work(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.dubbing.dub.FirstPass", lambda *_: pytest.fail("work was begun"))
    (tmp_path / "a file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    for out in (tmp_path / "folder.mp4", tmp_path / "a file" / "dub.mp4"):
        with pytest.raises(StoreError):
            dub_video(str(clip), str(speech), str(out), settings, networks=networks)
    with pytest.raises(SettingsError, match=r"ends in \.mp4"):
        dub_video(str(clip), str(speech), str(tmp_path / "dub.avi"), settings, networks=networks)
    with pytest.raises(SettingsError, match="also an input"):
        dub_video(str(clip), str(speech), str(clip), settings, networks=networks)


@pytest.mark.parametrize("place", ["video", "speech", "segment", "soundtrack"])
@pytest.mark.parametrize("away", [True, False])
def test_no_input_is_replaced_however_its_place_is_written(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, place: str, away: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    given, out = ("memory://footage/a.mp4", "memory:///footage/a.mp4") if away else ("a.mp4", f"file://{tmp_path}/./a.mp4")
    write_bytes(given, clip.read_bytes())
    segments = (Segment(start_s=0.0, end_s=0.4, speech=given if place == "segment" else str(speech)),)
    asked = settings.replaced(soundtrack=given if place == "soundtrack" else None)
    video, said = (given if place == name else str(usual) for name, usual in (("video", clip), ("speech", speech)))
    with pytest.raises(SettingsError, match="is also an input"):
        dub_video(video, said, out, asked, networks=networks, segments=segments)
    assert read_bytes(given) == clip.read_bytes()


STAGES_OF_PASS_TWO = [
    "tasks.dubbing.part.crop_face",
    "tasks.dubbing.generate.Generator.render",
    "tasks.dubbing.part.new_face",
    "tasks.dubbing.dub.VideoWriter.write",
]


@pytest.mark.parametrize("stage", STAGES_OF_PASS_TWO)
@pytest.mark.parametrize("works_first", [0, 1])
def test_a_dub_that_breaks_leaves_nothing(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, stage: str, works_first: int
) -> None:
    """Whichever thread it breaks on, at its first frame or later: its own error comes out, and no thread is left."""
    threads, calls, works = threading.active_count(), itertools.count(), pkgutil.resolve_name(stage)

    def broken(*given: object) -> object:
        if next(calls) < works_first:
            return works(*given)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stage, broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        dub_video(str(clip), str(speech), str(tmp_path / "dub.mp4"), settings.replaced(batch_frames=2), networks=networks)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_rendering_waits_neither_for_pasting_nor_for_encoding(
    tmp_path: Path, settings: DubSettings, networks: Networks, clip: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first face is pasted, and the first picture written, only when the next batch is being rendered."""
    second_batch = threading.Event()
    batches, render, paste, write = itertools.count(), Generator.render, new_face, VideoWriter.write
    waited: list[bool] = []
    by_thread: dict[str, set[int]] = {"render": set(), "paste": set(), "write": set()}

    def noted_render(*given: object) -> object:
        by_thread["render"].add(threading.get_ident())
        if next(batches) == 1:
            second_batch.set()
        return render(*given)

    def late_paste(*given: object) -> object:
        by_thread["paste"].add(threading.get_ident())
        waited.append(second_batch.wait(10))
        return paste(*given)

    def noted_write(*given: object) -> object:
        by_thread["write"].add(threading.get_ident())
        return write(*given)

    monkeypatch.setattr(Generator, "render", noted_render)
    monkeypatch.setattr("tasks.dubbing.part.new_face", late_paste)
    monkeypatch.setattr(VideoWriter, "write", noted_write)
    summary = dub_video(str(clip), str(speech), str(tmp_path / "dub.mp4"), settings.replaced(batch_frames=2), networks=networks)
    assert (len(waited), all(waited), summary.frames) == (12, True, 12)
    assert [len(threads) for threads in by_thread.values()] == [1, 1, 1]
    assert len(set.union(*by_thread.values())) == 3


def test_people_in_one_picture_are_all_cropped_from_the_source_and_pasted_in_their_order(
    tmp_path: Path, settings: DubSettings, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, said = make_talking_clip(tmp_path / "clip.mp4", seconds=0.4), str(make_speech(tmp_path / "said.wav", seconds=0.4))
    cropped: list[list[np.ndarray]] = []
    monkeypatch.setattr(Generator, "render", lambda _, faces, *__: cropped.append(list(faces)) or np.full_like(faces, 40 * len(cropped)))
    segments = tuple(Segment(start_s=0.0, end_s=0.4, speech=said, face=face) for face in ("largest", "left"))
    plain = settings.replaced(match_colour=False, batch_frames=16)
    dub_video(str(source), said, str(tmp_path / "dub.mp4"), plain, networks=networks, segments=segments)
    first, second = cropped
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))  # it is one face, said twice
    mouth = pictures(tmp_path / "dub.mp4")[5][120:130, 100:156]
    assert abs(np.median(mouth) - 80) < 10  # the second face
