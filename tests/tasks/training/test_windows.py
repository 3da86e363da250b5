import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.corpus.store import CorpusStore
from tasks.evaluation.lips import INNER_LOWER_LIP, INNER_UPPER_LIP
from tasks.training.footage import Footage, read_lessons
from tasks.training.windows import Draw, WindowChooser, choose_references, possible_starts, random_numbers
from tests.training_corpus import SNAPSHOT


@pytest.fixture(scope="module")
def footage(corpus: CorpusStore) -> Footage:
    return read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train


@given(st.integers(6, 60), st.integers(1, 25), st.integers(0, 2**32))
@settings(deadline=None)
def test_references_are_distinct_and_outside_wherever_there_are_enough(frames: int, count: int, seed: int) -> None:
    starts = np.arange(frames - 4)
    picked = choose_references(np.random.default_rng(seed), np.full(len(starts), frames), starts, count)
    for start, references in zip(starts.tolist(), picked.tolist(), strict=True):
        assert not set(references) & set(range(start, start + 5))
        assert min(references) >= 0
        assert max(references) < frames
        assert len(set(references)) == min(count, frames - 5)


def test_every_set_of_references_is_as_likely() -> None:
    many = np.full(40_000, 10)
    sets = Counter(frozenset(row) for row in choose_references(np.random.default_rng(0), many, np.full_like(many, 3), 2).tolist())
    assert set.union(*map(set, sets)) == {0, 1, 2, 8, 9}
    assert len(sets) == 10
    assert max(abs(count / 4000 - 1) for count in sets.values()) < 0.06


def long_corpus(clips: int) -> WindowChooser:
    """A chooser for a million clips and the like, which needs no more of footage than this."""

    class Lengths:
        frames = np.full(clips, 250)
        sound_shift = np.zeros(clips, dtype=np.int64)

    return WindowChooser(Lengths())


def test_a_million_clips_cost_a_small_batch_nothing() -> None:
    few, many = long_corpus(1000), long_corpus(1_000_000)
    few.choose(0, 0, 8, 15), many.choose(0, 0, 8, 15)  # an epoch is shuffled once
    assert _seconds(many) < 3 * _seconds(few)


def _seconds(chooser: WindowChooser) -> float:
    times = []
    for _ in range(5):
        began = time.thread_time()
        for step in range(1, 40):
            chooser.choose(0, step, 8, 15)
        times.append(time.thread_time() - began)
    return min(times)


def test_what_was_asked_before_changes_nothing() -> None:
    asked, fresh = long_corpus(7), long_corpus(7)
    for step in (11, 2, 300, 0, 2):
        asked.choose(1, step, 5, 3)
    for step in (2, 300, 4):
        one, other = asked.choose(1, step, 5, 3), fresh.choose(1, step, 5, 3)
        assert all(np.array_equal(*pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True))


def test_each_epoch_sees_other_windows_of_a_clip_and_other_references(footage: Footage) -> None:
    chooser = WindowChooser(footage)
    epochs = [chooser.choose(0, step, footage.clips, 3) for step in range(200)]
    starts = Counter(int(windows.starts[windows.clips == 0][0]) for windows in epochs)
    assert set(starts) == set(range(2, 24))
    references = Counter(epochs[step].references[epochs[step].clips == 0].reshape(-1)[0] for step in range(200))
    assert len(references) > 20


def test_each_purpose_has_random_numbers_of_its_own() -> None:
    first = {draw: random_numbers(3, 4, draw).random() for draw in Draw if draw is not Draw.WINDOWS}
    assert len(set(first.values())) == len(first)


def test_silent_samples_are_windows_around_closed_lips(footage: Footage) -> None:
    opened = footage.content.copy()
    opened[:, :, INNER_LOWER_LIP] = opened[:, :, INNER_UPPER_LIP]
    rows = np.arange(len(opened))
    open_rows = (rows % 7 != 0) | (rows >= footage.frames[0])
    opened[open_rows, 1, INNER_LOWER_LIP] += 0.1
    shut = Footage(**{**vars(footage), "content": opened})
    windows = WindowChooser(shut, silence_share=1.0).choose(0, 0, 10_000, 2)
    assert windows.silent.tolist() == (windows.clips == 0).tolist(), "a clip that never closes its lips keeps its windows"
    assert set((windows.starts[windows.silent] + 2).tolist()) == {frame for frame in range(7, 30, 7) if 4 <= frame < 26}
    first, count = possible_starts(shut.frames[windows.clips], shut.sound_shift[windows.clips])
    assert ((windows.starts >= first) & (windows.starts < first + count)).all()


def test_a_share_of_samples_is_silent_and_the_others_are_as_without(footage: Footage) -> None:
    closed = Footage(**{**vars(footage), "content": footage.content.copy()})
    closed.content[:, :, INNER_LOWER_LIP] = closed.content[:, :, INNER_UPPER_LIP]
    plain, silenced = (WindowChooser(closed, share) for share in (0.0, 0.3))
    silent = 0
    for step in range(50):
        one, other = plain.choose(0, step, 40, 4), silenced.choose(0, step, 40, 4)
        heard = ~other.silent
        np.testing.assert_array_equal(one.clips, other.clips)
        np.testing.assert_array_equal(one.starts[heard], other.starts[heard])
        np.testing.assert_array_equal(one.references[heard], other.references[heard])
        silent += other.silent.sum()
    assert silent / 2000 == pytest.approx(0.3, abs=0.04)
