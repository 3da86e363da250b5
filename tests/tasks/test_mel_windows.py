"""Which piece of a mel spectrogram belongs to a frame."""

import numpy as np

from tasks.mel_windows import SILENCE, WINDOW_FRAMES, mel_windows, window_start, window_starts


def test_windows_begin_where_the_contract_says() -> None:
    # int(80 (f - 2) / 25): five video frames centred on f
    golden = {0: -6, 1: -3, 2: 0, 3: 3, 4: 6, 5: 9, 6: 12, 7: 16, 27: 80, 1002: 3200}
    assert {frame: window_start(frame) for frame in golden} == golden
    assert window_starts(np.array(list(golden))).tolist() == list(golden.values())


def test_a_window_is_bands_by_frames_of_the_mel() -> None:
    mel = np.arange(40 * 80, dtype=np.float32).reshape(40, 80)
    windows = mel_windows(mel, np.array([0, 9]))
    assert windows.shape == (2, 1, 80, WINDOW_FRAMES)
    assert windows.dtype == np.float32
    assert np.array_equal(windows[1, 0], mel[9:25].T)


def test_sounds_laid_end_to_end_do_not_run_into_each_other() -> None:
    mel = np.concatenate([np.full((20, 80), 1), np.full((30, 80), 2)]).astype(np.float32)
    windows = mel_windows(mel, np.array([12, -6]), first=np.array([0, 20]), frames=np.array([20, 30]))[:, 0, 0]
    assert windows.tolist() == [[1] * 8 + [SILENCE] * 8, [SILENCE] * 6 + [2] * 10]


def test_outside_the_sound_is_silence() -> None:
    mel = np.zeros((20, 80), dtype=np.float32)
    before, after, beyond = mel_windows(mel, np.array([-6, 12, 400]))[:, 0]
    assert (before[:, :6] == SILENCE).all()
    assert (before[:, 6:] == 0).all()
    assert (after[:, :8] == 0).all()
    assert (after[:, 8:] == SILENCE).all()
    assert (beyond == SILENCE).all()
