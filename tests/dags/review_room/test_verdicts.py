"""Verdicts: all are kept, the latest of a dub counts, and each is followed once."""

from itertools import count

import pytest

from dags.review_room.database import Database
from dags.review_room.messages import NotYoursError
from dags.review_room.verdicts import GivenVerdict, NewVerdict, claim, give_verdict, latest_verdicts, settle, verdicts_of
from schemas.jobs import DubJob
from schemas.review import VerdictSubject
from tests.dags.review_room.conftest import new_verdict

NUMBERS = count(1)


def subject(job_id: str) -> VerdictSubject:
    return VerdictSubject(dub=f"/dubs/{job_id}.mp4", version="1-2", job=DubJob(job_id=job_id, video="/v.mp4", speech="/s.wav", out=f"{job_id}.mp4"))


def give(
    database: Database, job_id: str, verdict: str, *, batch: str = "monday", fingerprint: str = "f1", version: str = "", author: str = "ann"
) -> GivenVerdict:
    settings = {"references": 5} if verdict == "redo" else {}
    new = NewVerdict.model_validate(new_verdict(next(NUMBERS), verdict, settings=settings) | {"fingerprint": fingerprint, "version": version})
    return give_verdict(database, batch, job_id, new, subject(job_id), author)


def test_the_latest_of_a_dub_counts_and_all_are_kept(database: Database) -> None:
    for job_id, verdict in (("a", "approve"), ("b", "reject"), ("a", "redo")):
        give(database, job_id, verdict)
    assert [(one.job_id, one.verdict) for one in latest_verdicts(database, "monday")] == [("b", "reject"), ("a", "redo")]
    assert [(one.number, one.verdict, one.settings) for one in verdicts_of(database, "monday", "a")] == [(3, "redo", {"references": 5}), (1, "approve", {})]
    assert latest_verdicts(database, "tuesday") == []


def test_a_verdict_that_is_sent_twice_is_one_and_an_id_is_its_senders(database: Database) -> None:
    new = NewVerdict.model_validate(new_verdict(next(NUMBERS)))
    first = give_verdict(database, "monday", "a", new, subject("a"), "ann")
    assert give_verdict(database, "monday", "a", new, subject("a"), "ann") == first
    for job_id, author in (("a", "ben"), ("b", "ann")):
        with pytest.raises(NotYoursError):
            give_verdict(database, "monday", job_id, new, subject(job_id), author)


def test_a_dub_that_was_made_anew_has_a_verdict_of_its_own(database: Database) -> None:
    give(database, "a", "reject", fingerprint="f1")
    give(database, "a", "approve", fingerprint="f2")
    give(database, "a", "redo", fingerprint="f2", version="of other content")
    counting = {(one.fingerprint, one.version, one.verdict) for one in latest_verdicts(database, "monday")}
    assert counting == {("f1", "", "reject"), ("f2", "", "approve"), ("f2", "of other content", "redo")}


def test_what_counts_is_followed_once(database: Database) -> None:
    give(database, "a", "reject")
    give(database, "a", "approve")
    give(database, "b", "redo", batch="tuesday")
    claimed = claim(database, "run-1")
    assert [(one.batch, one.given.job_id, one.given.verdict) for one in claimed] == [("monday", "a", "approve"), ("tuesday", "b", "redo")]
    assert claimed[0].subject == subject("a")
    settle(database, [(one.batch, one.given.number) for one in claimed])
    assert claim(database, "run-2") == []
    assert all(one.settled for one in latest_verdicts(database, "monday"))


def test_what_a_run_that_failed_has_claimed_is_given_to_the_next_under_the_old_name(database: Database) -> None:
    give(database, "a", "redo")
    assert claim(database, "run-1") == claim(database, "run-1"), "a retry finds the same"
    give(database, "b", "redo")
    assert [(one.given.job_id, one.claim) for one in claim(database, "run-2")] == [("a", "run-1"), ("b", "run-2")]


def test_a_run_that_tries_again_claims_nothing_new(database: Database) -> None:
    """Its list is written already: what it claimed now would be settled and never made."""
    give(database, "a", "redo")
    claim(database, "run-1")
    late = give(database, "b", "redo")
    assert [one.given.job_id for one in claim(database, "run-1")] == ["a"]
    settle(database, [("monday", 1)])
    assert claim(database, "run-1") == []
    assert [one.given for one in claim(database, "run-2")] == [late]


@pytest.mark.parametrize("then", ["reject", "redo"])
def test_what_was_overruled_after_it_was_claimed_is_not_followed(database: Database, then: str) -> None:
    """The run that claimed it failed, or the gate held the dub."""
    give(database, "a", "approve")
    claim(database, "run-1")
    last = give(database, "a", then)
    assert [(one.given, one.claim) for one in claim(database, "run-2")] == [(last, "run-2")]
    assert [one.settled for one in verdicts_of(database, "monday", "a")] == [False, True]


def test_a_job_is_redone_once_however_many_of_its_dubs_were_asked_for(database: Database) -> None:
    give(database, "a", "redo", fingerprint="f1")
    last = give(database, "a", "redo", fingerprint="f2")
    assert [one.given for one in claim(database, "run-1")] == [last]
    assert [one.given for one in claim(database, "run-2")] == [last]


def test_who_changes_their_mind_after_it_was_followed_is_followed_again(database: Database) -> None:
    first = give(database, "a", "redo")
    claim(database, "run-1")
    settle(database, [("monday", first.number)])
    give(database, "a", "approve")
    assert [one.given.verdict for one in claim(database, "run-2")] == ["approve"]
