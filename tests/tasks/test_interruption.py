"""Ctrl-C and SIGTERM as one exception."""

import signal

import pytest

from tasks.interruption import Interruption, held_back, interrupted_by_signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_an_interruption_with_its_exit_code(number: signal.Signals, exit_code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interruption) as stopped, interrupted_by_signals():
        signal.raise_signal(number)
    assert stopped.value.exit_code == exit_code
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert signal.getsignal(number) == before


def test_the_other_signal_does_not_disturb_the_cleaning_up() -> None:
    cleaned_up = []

    def interrupted_work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned_up.append(True)

    with pytest.raises(Interruption) as stopped, interrupted_by_signals():
        interrupted_work()
    assert cleaned_up
    assert stopped.value.exit_code == 130


def test_what_must_not_be_left_halfway_is_finished_first() -> None:
    done = []

    def work() -> None:
        with held_back():
            with held_back():
                signal.raise_signal(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("never")

    with pytest.raises(Interruption) as stopped, interrupted_by_signals():
        work()
    assert done == ["inner", "outer"]
    assert stopped.value.exit_code == 143
    with held_back():
        done.append("nothing waits any more")


def test_what_was_noted() -> None:
    stopped = Interruption(signal.SIGTERM)
    assert stopped.sentence == ""
    stopped.add_note("at step 3")
    assert stopped.sentence == "at step 3"
