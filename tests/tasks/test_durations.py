from tasks.durations import spoken_duration, time_code


def test_durations_are_said_as_a_person_says_them() -> None:
    assert [spoken_duration(seconds) for seconds in (0.53, 48.4, 252.0, 7500.0)] == ["0.5 s", "48 s", "4 min 12 s", "2 h 5 min"]


def test_moments_are_said_as_players_show_them() -> None:
    assert [time_code(time_s) for time_s in (0, 7.9, 754, 3723)] == ["0:00", "0:07", "12:34", "1:02:03"]
