from tasks.durations import spoken_duration


def test_durations_are_said_as_a_person_says_them() -> None:
    assert [spoken_duration(seconds) for seconds in (0.53, 48.4, 252.0, 7500.0)] == ["0.5 s", "48 s", "4 min 12 s", "2 h 5 min"]
