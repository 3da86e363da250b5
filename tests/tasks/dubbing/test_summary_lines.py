from schemas.jobs import BulkDubSummary, DubSummary, FailedJob, Moment, SourceShown
from tasks.dubbing.summary_lines import bulk_lines, dub_lines

PLAIN = DubSummary(output="o.mp4", frames=50, dubbed_frames=50, duration_s=2.0, fps="25", width=640, height=360, confidence=(1.0, 1.0))


def test_a_dub_of_which_nothing_is_to_be_said() -> None:
    assert dub_lines(PLAIN.replaced(seconds_by_stage={"render": 12.34})) == [
        "output: o.mp4, 2.0 s, 640 × 360, 25 frames a second",
        "dubbed: 50 of 50 frames",
        "source shown: nowhere",
        "confidence: 100% on average, 100% in the least sure second (100%: nothing speaks against it; under 80%: worth a look)",
        "first pass: made",
        "seconds of work, side by side: render 12.3",
    ]


def test_a_dub_says_where_the_source_shows_and_where_to_look_first() -> None:
    shown = (SourceShown(start_s=0, end_s=1.5, reason="covered"), SourceShown(start_s=70, end_s=72, reason="turned-away"))
    worst = (Moment(second=71, confidence=0.41, why="the head is turned away"), Moment(second=7, confidence=0.7, why="the face is small"))
    lines = dub_lines(PLAIN.replaced(source_shown=shown, confidence=(0.7, 0.41, 1.0), worst=worst))
    assert "source shown: 3.5 s in all, 0.0 to 1.5 s (the mouth is covered), 70.0 to 72.0 s (the head is turned away)" in lines
    assert "look first at: 1:11 (41%, the head is turned away), 0:07 (70%, the face is small)" in lines
    assert any(line.startswith("confidence: 70% on average, 41% in the least sure second") for line in lines)
    many = dub_lines(PLAIN.replaced(source_shown=shown[:1] * 12))
    assert any(line.endswith("(the mouth is covered), and 2 more (--json shows them)") for line in many)


def test_a_dub_names_its_patch_and_what_was_kept_from_an_earlier_one() -> None:
    lines = dub_lines(PLAIN.replaced(patch="faces/", template_was_kept=True, fps="30000/1001"))
    assert "patch: faces/, the faces alone with alpha; patch.json in it says where each goes" in lines
    assert "first pass: not needed, what an earlier dub found in the video was kept" in lines
    assert lines[0].endswith("29.97 frames a second")


def test_a_list_names_the_first_jobs_that_failed_and_where_every_row_is() -> None:
    failed = (FailedJob(job_id="a", reason="missing", detail="a.mp4 is not there."), FailedJob(job_id="b", reason="no-face", detail="No face."))
    run = BulkDubSummary(out="dubs", jobs=1200, already_done=7, done=1190, failed={"missing": 2, "no-face": 1}, first_failed=failed, results="dubs/results")
    assert bulk_lines(run) == [
        "jobs: 1,200, of which 7 were done before",
        "done: 1,190",
        "failed: 3 (missing 2, no-face 1)",
        "  a: missing: a.mp4 is not there.",
        "  b: no-face: No face.",
        "  and 1 more",
        "results: dubs/results, a row a job",
        "to look at: dubmill report dubs dubs --html dubs.html",
    ]
    assert bulk_lines(run.replaced(failed={}, first_failed=()))[2:4] == ["failed: 0", "results: dubs/results, a row a job"]
