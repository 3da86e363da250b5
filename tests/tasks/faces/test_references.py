import numpy as np

from tasks.faces.references import even_steps, reference_frames


def test_even_steps_reach_both_ends() -> None:
    assert even_steps(10, 4).tolist() == [0, 3, 6, 9]


def test_frames_go_from_the_most_closed_to_the_most_open() -> None:
    openings = np.array([0.5, 0.1, 0.4, 0.3, 0.2])
    assert reference_frames(openings, 3).tolist() == [1, 3, 0]
    assert reference_frames(openings, 5).tolist() == [1, 4, 3, 2, 0]


def test_frames_repeat_where_there_are_too_few() -> None:
    assert reference_frames([0.2, 0.1], 4).tolist() == [1, 1, 1, 0]
