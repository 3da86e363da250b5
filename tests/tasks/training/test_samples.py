import numpy as np
import pytest
import torch

from tasks.corpus.store import ClipArrays, CorpusStore
from tasks.faces.sketch import draw_sketch
from tasks.mel_windows import mel_windows, window_starts
from tasks.training.footage import Footage, lay_end_to_end, read_lessons
from tasks.training.pictures import FacePictures
from tasks.training.samples import LandmarkBatch, LandmarkSamples, RendererSamples
from tasks.training.windows import choose_windows, samples_in_batch
from tests.training_corpus import BATCH, SNAPSHOT


@pytest.fixture(scope="module")
def footage(corpus: CorpusStore) -> Footage:
    return read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train


def test_a_batch_follows_from_seed_step_and_size(footage: Footage) -> None:
    again = choose_windows(footage, 1, 7, 16, 15)
    first = choose_windows(footage, 1, 7, 16, 15)
    assert all(np.array_equal(one, other) for one, other in zip(vars(first).values(), vars(again).values(), strict=True))
    for other in (choose_windows(footage, 2, 7, 16, 15), choose_windows(footage, 1, 8, 16, 15)):
        assert not np.array_equal(first.references, other.references)


def test_references_lie_outside_the_window_and_repeat_only_where_they_must(footage: Footage) -> None:
    windows = choose_windows(footage, 0, 0, 40, 15)
    frames = footage.frames[windows.clips]
    for start, references, count in zip(windows.starts, windows.references, frames, strict=True):
        assert not set(references) & set(range(start, start + 5))
        assert references.min() >= 0
        assert references.max() < count
        assert len(set(references)) == min(15, count - 5)


def test_windows_keep_their_sound_within_the_clip(footage: Footage) -> None:
    windows = choose_windows(footage, 0, 3, 40, 3)
    assert (windows.starts >= 2).all()
    assert (windows.starts + 5 <= footage.frames[windows.clips] - 2).all()


def test_each_epoch_sees_every_clip_once(footage: Footage) -> None:
    seen = np.concatenate([choose_windows(footage, 5, step, 2, 3).clips for step in range(6)])
    for epoch in seen.reshape(-1, footage.clips):
        assert sorted(epoch) == list(range(footage.clips))


def test_a_batch_larger_than_the_corpus_has_every_window_once(footage: Footage) -> None:
    windows = choose_windows(footage, 0, 0, 10_000, 3)
    pairs = set(zip(windows.clips.tolist(), windows.starts.tolist(), strict=True))
    assert len(pairs) == len(windows.clips) == samples_in_batch(footage, 10_000) == (30 - 8) + (40 - 8) + 1


@pytest.mark.parametrize("workers", [2, 3])
def test_parts_of_workers_make_the_whole_batch(footage: Footage, workers: int) -> None:
    samples = LandmarkSamples(footage, 15)
    whole = samples.batch(0, 4, 8)
    parts = [samples.batch(0, 4, 8, rank, workers) for rank in range(workers)]
    for tensor, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(tensor, torch.cat(list(pieces)))


def test_landmark_batches_hold_what_the_clips_hold(corpus: CorpusStore, footage: Footage) -> None:
    clips = sorted(corpus.read_clips((clip.batch, clip.clip_id) for clip in corpus.snapshot(SNAPSHOT).clips if clip.split == "train"), key=lambda c: c.clip_id)
    batch = LandmarkSamples(footage, 4).batch(0, 2, 12)
    windows = choose_windows(footage, 0, 2, 12, 4)
    assert [tuple(tensor.shape) for tensor in batch] == [(12, 5, 1, 80, 16), (12, 5, 2, 74), (12, 5, 2, 57), (12, 4, 2, 74), (12, 4, 2, 57)]
    for sample, (clip, start) in enumerate(zip(windows.clips, windows.starts, strict=True)):
        frames = np.arange(start, start + 5)
        np.testing.assert_array_equal(batch.content[sample], clips[clip].content[frames])
        np.testing.assert_array_equal(batch.mels[sample], mel_windows(clips[clip].mel, window_starts(frames)))
        np.testing.assert_array_equal(batch.reference_pose[sample], clips[clip].pose[windows.references[sample]])


def timed(frames: int, sound_delay_s: float = 0.0) -> ClipArrays:
    """A clip whose pose at a frame and whose mel spectrogram at a mel frame are the moment at which it was filmed and recorded."""
    moments = (np.arange(frames) / 25).astype(np.float32)
    heard = (np.arange(int(frames * 3.2)) / 80 - sound_delay_s).astype(np.float32)
    return ClipArrays(
        "clip", "a", "b", mel=np.repeat(heard[:, None], 80, axis=1),
        pose=np.broadcast_to(moments[:, None, None], (frames, 2, 74)), content=np.broadcast_to(moments[:, None, None], (frames, 2, 57)),
        boxes=np.zeros((frames, 4), np.float32), lip_opening=moments, faces_shard="s",
        faces_offset=np.arange(frames), faces_size=np.ones(frames, np.int32),
    )  # fmt: skip


def moments_of_windows(footage: Footage) -> list[tuple[float, float]]:
    """The moment of each frame of every window, and the moment at which its mel window begins."""
    batch = LandmarkSamples(footage, 2).batch(0, 0, 10_000)
    pairs = zip(batch.pose[..., 0, 0].reshape(-1).tolist(), batch.mels[..., 0, 0].reshape(-1).tolist(), strict=True)
    return sorted({(round(frame, 4), round(sound, 4)) for frame, sound in pairs})


@pytest.mark.parametrize("late", [-8, -5, -3, -1, 0, 1, 3, 5, 8])
def test_sound_that_is_moved_belongs_to_the_same_frames_as_before(late: int) -> None:
    as_filmed = dict(moments_of_windows(lay_end_to_end([timed(60)])))
    moved = dict(moments_of_windows(lay_end_to_end([timed(60, sound_delay_s=late / 25)], [late])))
    inner = moved.keys() & as_filmed.keys()
    assert len(inner) >= 60 - 4 - abs(late)
    a_mel_frame = 0 if late % 5 == 0 else 1.01 / 80  # of other moves, the part of a mel frame is lost
    for frame in inner:
        assert moved[frame] == pytest.approx(as_filmed[frame], abs=a_mel_frame)


@pytest.mark.parametrize("late", [-8, -3, -1, 0, 1, 3, 8])
@pytest.mark.parametrize("extra", [0, 1, 2, 3, 30])
def test_frames_without_sound_of_their_own_are_not_sampled(late: int, extra: int) -> None:
    frames = abs(late) + 6 + extra
    footage = lay_end_to_end([timed(frames)], [late])
    windows = choose_windows(footage, 0, 0, 10_000, 2)
    heard = windows.starts[:, None] + np.arange(5) + late
    assert len(windows.starts) > 0
    assert windows.starts.min() >= 0
    assert windows.starts.max() + 5 <= frames
    assert heard.min() >= 0
    assert heard.max() < frames
    if extra >= 3:
        assert (batch_of(footage).mels > -4).all(), "no window reaches beyond the sound"


def batch_of(footage: Footage) -> LandmarkBatch:
    return LandmarkSamples(footage, 2).batch(0, 0, 10_000)


def test_a_snapshot_moves_the_sound_it_trains_on(corpus: CorpusStore) -> None:
    frozen = corpus.snapshot(SNAPSHOT)
    moved = frozen.replaced(clips=[clip.replaced(sound_shift_frames=5 if clip.split == "train" else -4) for clip in frozen.clips])
    plain, shifted = read_lessons(corpus, frozen), read_lessons(corpus, moved)
    assert shifted.train.sound_shift.tolist() == [5, 5], "of the clip of 9 frames too few have sound of their own"
    assert shifted.validation.sound_shift.tolist() == [-4]
    one, ten = np.array([1]), np.array([10])
    np.testing.assert_array_equal(shifted.train.mel_windows(one, ten), plain.train.mel_windows(one, ten + 5))
    assert RendererSamples(shifted.train, 1, 128, FacePictures(corpus, shifted.train)).batch(0, 0, 2).mel.shape == (2, 1, 80, 16)


def test_mel_windows_beyond_a_clip_are_silent(footage: Footage) -> None:
    last = np.array([29])
    window = footage.mel_windows(np.array([0]), last)[0, 0]
    assert (window[:, -1] == -4).all()
    assert (window[:, 0] > -4).all()


class Seen:
    """Pictures that remember which of them were read."""

    def __init__(self, pictures: FacePictures) -> None:
        self.pictures = pictures
        self.read_rows: list[tuple[int, int]] = []

    def read(self, clip: int, row: int) -> np.ndarray:
        self.read_rows.append((clip, row))
        return self.pictures.read(clip, row)


def test_renderer_batches_hold_faces_sketches_and_sound(corpus: CorpusStore, footage: Footage) -> None:
    pictures = Seen(FacePictures(corpus, footage))
    batch = RendererSamples(footage, 3, 128, pictures).batch(0, 1, 4)
    windows = choose_windows(footage, 0, 1, 4, 3)
    assert len(pictures.read_rows) == 4 * (1 + 3)
    assert [tuple(tensor.shape) for tensor in batch] == [(4, 3, 128, 128), (4, 5, 3, 128, 128), (4, 3, 3, 128, 128), (4, 3, 3, 128, 128), (4, 1, 80, 16)]
    row = footage.first_frame[windows.clips[0]] + windows.starts[0] + 2
    face = corpus.face_picture(footage.shards[0], footage.picture_offset[row], footage.picture_size[row])
    np.testing.assert_array_equal(batch.face[0].permute(1, 2, 0), face)
    assert batch.unit_pictures().face.max() <= 1


def test_sketches_follow_the_crop(corpus: CorpusStore, footage: Footage) -> None:
    batch = RendererSamples(footage, 2, 128, FacePictures(corpus, footage)).batch(0, 0, 3)
    windows = choose_windows(footage, 0, 0, 3, 2)
    for sample in range(3):
        frames = [*range(windows.starts[sample], windows.starts[sample] + 5), *windows.references[sample]]
        sketches = torch.cat([batch.sketches[sample], batch.reference_sketches[sample]])
        for frame, sketch in zip(frames, sketches, strict=True):
            row = footage.first_frame[windows.clips[sample]] + frame
            np.testing.assert_array_equal(sketch.permute(1, 2, 0), draw_sketch(footage.pose[row], footage.content[row], (120, 100), 128))


def test_the_sketch_has_the_ratio_of_the_uncut_box(corpus: CorpusStore) -> None:
    clip = next(iter(corpus.read_clips([(BATCH, f"{0:016x}-s0t0")])))
    footage = lay_end_to_end([clip])
    footage.boxes[:] = (10.875, 20.0, 110.0, 140.875)  # as with `iplap-train`; cut to whole pixels it would be 100 by 120
    start = choose_windows(footage, 0, 0, 1, 1).starts[0]
    uncut, cut = (draw_sketch(clip.pose[start], clip.content[start], ratio, 128) for ratio in ((120.875, 99.125), (120, 100)))
    assert not np.array_equal(uncut, cut)
    sketches = RendererSamples(footage, 1, 128, FacePictures(corpus, footage)).batch(0, 0, 1).sketches
    np.testing.assert_array_equal(sketches[0, 0].permute(1, 2, 0), uncut)
