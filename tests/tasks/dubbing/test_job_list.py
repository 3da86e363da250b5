import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import SettingsError
from schemas.jobs import DubJob, Segment
from tasks.dubbing.job_list import output_location, read_job_list

ROWS = [
    {"job_id": "a", "video": "one.mp4", "speech": "/sounds/one.wav", "out": "a.mp4"},
    {"job_id": "b", "video": "s3://bucket/two.mp4", "speech": "two, 二.wav", "out": "deep/b.mp4", "fps": "25", "references": 7},
]


def write(path: Path, rows: list[dict[str, object]], encoding: str = "utf-8") -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{"fps": None, "references": None} | row for row in rows]), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n", encoding=encoding)
    else:
        names = list(dict.fromkeys(["job_id", "video", "speech", "out", "fps", "references", *(name for row in rows for name in row)]))
        cells = [[str(row.get(name, "")).replace('"', '""') for name in names] for row in rows]
        lines = [",".join(f'"{cell}"' for cell in line) for line in cells]
        path.write_text("\r\n".join([",".join(names), *lines, ""]), encoding=encoding)
    return str(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_three_kinds_say_the_same(tmp_path: Path, kind: str, encoding: str) -> None:
    first, second = read_job_list(write(tmp_path / f"jobs.{kind}", ROWS, encoding))
    assert first == DubJob(job_id="a", video=f"{tmp_path}/one.mp4", speech="/sounds/one.wav", out="a.mp4")
    assert second == DubJob(
        job_id="b", video="s3://bucket/two.mp4", speech=f"{tmp_path}/two, 二.wav", out="deep/b.mp4", settings={"fps": "25", "references": 7}
    )


def test_a_number_as_rate_is_understood(tmp_path: Path) -> None:
    assert read_job_list(write(tmp_path / "jobs.jsonl", [ROWS[0] | {"fps": 25.0}]))[0].settings == {"fps": "25"}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_number_as_job_id_is_text(tmp_path: Path, kind: str) -> None:
    jobs = read_job_list(write(tmp_path / f"jobs.{kind}", [row | {"job_id": number} for number, row in enumerate(ROWS)]))
    assert [job.job_id for job in jobs] == ["0", "1"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(20231105, "20231105"), (20231105.0, "20231105"), (4711, "4711"), (2**53 + 1, "9007199254740993"), (0.1234567891, "0.1234567891"), (-2, "-2")],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_as_text_keep_all_their_digits(tmp_path: Path, kind: str, number: float, text: str) -> None:
    jobs = write(tmp_path / f"jobs.{kind}", [ROWS[0] | {"job_id": number, "consent": number}])
    (job,) = read_job_list(jobs)
    assert (job.job_id, job.settings) == (text, {"consent": text})


def test_a_number_that_parquet_has_in_some_rows_only_is_the_same_text(tmp_path: Path) -> None:
    table = pa.table(
        {name: [row[name] for row in ROWS] for name in ("job_id", "video", "speech", "out")}
        | {name: pa.array([20231105.0, None]) for name in ("consent", "face")}
    )
    pq.write_table(table, tmp_path / "jobs.parquet")
    assert [job.settings for job in read_job_list(str(tmp_path / "jobs.parquet"))] == [{"consent": "20231105", "face": "20231105"}, {}]


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    rows = [
        ROWS[0],
        ROWS[0] | {"job_id": "c", "video": ""},
        ROWS[0] | {"out": "../outside.mp4", "job_id": "d"},
        ROWS[0] | {"job_id": "e", "references": "many"},
        ROWS[0] | {"job_id": "f"},
        ROWS[1] | {"job_id": "a"},
    ]
    with pytest.raises(SettingsError) as error:
        read_job_list(write(tmp_path / "jobs.csv", rows))
    sentence = str(error.value)
    for part in ("row 2: video", "row 3: out ../outside.mp4", "row 4: references", "job_id a is given 2 times", "out a.mp4 is given 3 times"):
        assert part in sentence
    assert "\n" not in sentence


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="and 10 more") as error:
        read_job_list(
            write(tmp_path / "jobs.jsonl", [{"job_id": str(number), "out": f"{number}.mp4", "video": "v"} for number in range(29)] + [{"speech": "s"}])
        )
    assert len(str(error.value)) < 3000


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("jobs.csv", b"job_id,video,out\na,b,c\n", "no column speech"),
        ("jobs.csv", b"job_id,video,speech,out\n", "no jobs"),
        ("jobs.csv", "job_id,video,speech,out\n视频,b,c,d\n".encode("gbk"), "UTF-8"),
        ("jobs.csv", b"job_id,video,speech,out\na,b,c,d,e\n", "row 1: it has more cells"),
        ("jobs.csv", b"job_id,video,speech,out,out\na,b,c,d,e\n", "column out is there more than once"),
        ("jobs.jsonl", b'{"job_id": "a", "video": "v", "speech": "s", "out": "o"}\n{"job', "row 2"),
        ("jobs.parquet", b"no parquet", "cannot be read"),
        ("jobs.xlsx", b"", ".csv, .jsonl or .parquet"),
    ],
)
def test_unusable_lists_are_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=sentence) as error:
        read_job_list(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_missing_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not there"):
        read_job_list(str(tmp_path / "jobs.csv"))


@pytest.mark.parametrize(("out", "location"), [("a.mp4", "dubs/a.mp4"), ("deep/a.mp4", "dubs/deep/a.mp4"), ("s3://b/a.mp4", "s3://b/a.mp4")])
def test_outputs_lie_below_the_runs_folder_unless_they_are_in_a_bucket(out: str, location: str) -> None:
    assert output_location("dubs/", DubJob(job_id="a", video="v", speech="s", out=out)) == location


@pytest.mark.parametrize(
    "out",
    [
        "/etc/cron.d/x",
        "~/.bashrc",
        "~root/x.mp4",
        "file:///etc/x.mp4",
        "local:///etc/x.mp4",
        "simplecache::file:///etc/x.mp4",
        "deep/../../x.mp4",
        "results/part-00000-00000000.parquet",
        "./results/x.mp4",
        "results",
    ],
)
@pytest.mark.parametrize("run_out", ["dubs", "s3://bucket/dubs/"])
def test_a_list_writes_nothing_but_its_own_outputs(tmp_path: Path, out: str, run_out: str) -> None:
    with pytest.raises(SettingsError, match="row 1: out "):
        read_job_list(write(tmp_path / "jobs.jsonl", [ROWS[0] | {"out": out}]), run_out)


def test_a_uri_among_the_result_tables_is_refused(tmp_path: Path) -> None:
    jobs = write(tmp_path / "jobs.jsonl", [ROWS[0] | {"out": "s3://bucket/dubs/results/a.mp4"}])
    with pytest.raises(SettingsError, match="result tables"):
        read_job_list(jobs, "s3://bucket/dubs/")
    assert read_job_list(jobs, "s3://bucket/others")[0].out == "s3://bucket/dubs/results/a.mp4"
    assert read_job_list(write(tmp_path / "near.jsonl", [ROWS[0] | {"out": "results.mp4"}]))[0].out == "results.mp4"
    assert read_job_list(write(tmp_path / "film.jsonl", [ROWS[0] | {"out": "s3://b/A.MOV"}]))[0].out == "s3://b/A.MOV"


def test_any_setting_of_a_single_dub_is_a_column(tmp_path: Path) -> None:
    row = ROWS[0] | {"priority": "3", "match_colour": "false", "sharpening": "0.5", "crf": 20, "face": 1, "soundtrack": "music.wav", "consent": 77}
    for kind in ("csv", "jsonl"):
        (job,) = read_job_list(write(tmp_path / f"jobs.{kind}", [row]))
        assert job.priority == 3
        assert job.settings == {
            "match_colour": False,
            "sharpening": 0.5,
            "crf": 20,
            "face": "1",
            "soundtrack": f"{tmp_path}/music.wav",
            "consent": "77",
        }


def test_a_face_may_be_a_picture_of_the_list_s_folder(tmp_path: Path) -> None:
    jobs = read_job_list(write(tmp_path / "jobs.csv", [ROWS[0] | {"face": face, "job_id": face, "out": f"{face}.mp4"} for face in ("left", "2", "anna.png")]))
    assert [job.settings["face"] for job in jobs] == ["left", "2", f"{tmp_path}/anna.png"]


def test_segments_are_json_text_in_csv_and_lists_elsewhere(tmp_path: Path) -> None:
    segments = [{"start_s": 0, "end_s": 2.5, "speech": "anna.wav", "face": "left"}, {"start_s": 2.5, "end_s": 4, "speech": "/bert.wav", "face": 1}]
    expected = (
        Segment(start_s=0, end_s=2.5, speech=f"{tmp_path}/anna.wav", face="left"),
        Segment(start_s=2.5, end_s=4, speech="/bert.wav", face="1"),
    )
    in_parquet = [segment | {"face": str(segment["face"])} for segment in segments]
    for kind, given in (("csv", json.dumps(segments)), ("jsonl", segments), ("parquet", in_parquet)):
        (job,) = read_job_list(write(tmp_path / f"jobs.{kind}", [ROWS[0] | {"segments": given}]))
        assert job.segments == expected


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ({"referenzes": 5}, "column referenzes is not known (did you mean references?)"),
        ({"renderer": "mine.safetensors"}, "column renderer is no setting of a row"),
        ({"device": "cuda"}, "column device is no setting of a row"),
        ({"settings": "{}"}, "column settings is not known"),
        ({"segments": "0-4"}, "row 1: segments: is no list"),
        ({"segments": '[{"start_s": 3, "end_s": 2, "speech": "a.wav"}]'}, "row 1: segment 1: it ends at 2 s, not after its start at 3 s"),
        ({"segments": '[{"start_s": 3, "speach": "a.wav"}]'}, "segment 1: end_s is not given; speech is not given; speach is no setting here"),
        ({"priority": "soon"}, "row 1: priority"),
        ({"out": "b.avi"}, "row 1: out b.avi cannot be written: video is written as MP4, so give a name that ends in .mp4, .m4v or .mov."),
        ({"out": "deep/b"}, "row 1: out deep/b cannot be written"),
        ({"patch": "/etc"}, "row 1: patch /etc leads out of the output folder"),
    ],
)
def test_a_column_that_cannot_be_used_is_said(tmp_path: Path, column: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_job_list(write(tmp_path / "jobs.csv", [ROWS[0] | column]))
    assert sentence in str(error.value)


def test_all_faults_of_rows_and_columns_are_told_together(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"speech": "", "crf": "99", "out": "/a.mp4", "fsp": 25}, ROWS[1] | {"job_id": "a", "fsp": 25}, ROWS[1] | {"job_id": "a"}]
    with pytest.raises(SettingsError) as error:
        read_job_list(write(tmp_path / "jobs.csv", rows))
    for part in ("row 1: crf", "speech is not given", "fsp is not known (did you mean fps?)", "job_id a is given 2 times", "out deep/b.mp4 is given 2 times"):
        assert part in str(error.value)
    assert str(error.value).count("fsp") == 1


def test_two_names_of_one_output_are_one(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"out": "s3://bucket/dubs/a.mp4"}, ROWS[0] | {"job_id": "b", "out": "./a.mp4"}]
    with pytest.raises(SettingsError, match="is given 2 times"):
        read_job_list(write(tmp_path / "jobs.jsonl", rows), "s3://bucket/dubs")
    assert len(read_job_list(str(tmp_path / "jobs.jsonl"), "s3://bucket/others")) == 2


def test_nothing_in_a_table_of_numbers_is_not_given(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ROWS[0] | {"references": float("nan")}, ROWS[1] | {"references": 5.0}]), tmp_path / "jobs.parquet")
    assert [job.settings.get("references") for job in read_job_list(str(tmp_path / "jobs.parquet"))] == [None, 5]


def test_a_long_list_is_read_in_seconds(tmp_path: Path) -> None:
    rows = 10_000
    lines = [f"{number},v{number % 50}.mp4,{number}.wav,{number % 100}/{number}.mp4,{number % 3},{(25, 10, 5)[number % 3]}" for number in range(rows)]
    (tmp_path / "jobs.csv").write_text("\n".join(["job_id,video,speech,out,priority,references", *lines]))
    start = time.process_time()
    assert len(read_job_list(str(tmp_path / "jobs.csv"), str(tmp_path))) == rows
    assert time.process_time() - start < 3


def test_rows_of_empty_cells_are_none(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("job_id,video,speech,out\n,,,\na,v.mp4,s.wav,a.mp4\n , ,,\n\n")
    assert [job.job_id for job in read_job_list(str(tmp_path / "jobs.csv"))] == ["a"]
    (tmp_path / "jobs.csv").write_text("job_id,video,speech,out\n,,,\n")
    with pytest.raises(SettingsError, match="has no jobs"):
        read_job_list(str(tmp_path / "jobs.csv"))


@pytest.mark.parametrize("name", ["job_id", "video", "speech", "out"])
def test_a_zero_byte_is_refused_before_anything_starts(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"row 2: {name} holds a zero byte"):
        read_job_list(write(tmp_path / "jobs.jsonl", [ROWS[0], ROWS[1] | {name: "a\0.mp4"}]))


def test_a_line_that_is_nested_without_end_is_a_fault_of_its_row(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + 100_000 * "[")
    with pytest.raises(SettingsError, match="row 2: it is no JSON object"):
        read_job_list(str(tmp_path / "jobs.jsonl"))


SOURCES = [
    {"job_id": "1", "video": "a.mp4", "speech": "s.mp4", "out": "1.mp4", "soundtrack": "music.mov"},
    {"job_id": "2", "video": "b.mp4", "speech": "s.mp4", "out": "2.mp4", "segments": [{"start_s": 0, "end_s": 1, "speech": "bert.mp4"}]},
]


@pytest.mark.parametrize(
    ("out", "read"),
    [
        ("b.mp4", "the video of job 2"),
        ("./b.mp4", "the video of job 2"),
        ("a.mp4", "the video of job 1"),
        ("s.mp4", "the speech of job 1"),
        ("music.mov", "the soundtrack of job 1"),
        ("bert.mp4", "the speech of a segment of job 2"),
    ],
)
@pytest.mark.parametrize("spelling", ["{}", "file://{}", "{}/", "{}/deep/..", "{}/link"])
def test_no_output_replaces_what_a_row_reads(tmp_path: Path, out: str, read: str, spelling: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    jobs = write(tmp_path / "jobs.jsonl", [SOURCES[0] | {"out": out}, SOURCES[1]])
    with pytest.raises(SettingsError, match=f"out {out} of job 1 would replace {read}"):
        read_job_list(jobs, spelling.format(tmp_path))
    assert len(read_job_list(jobs, f"{tmp_path}/dubs")) == 2


def test_sources_are_known_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for video in ("b.mp4", f"{tmp_path}/b.mp4", f"file://{tmp_path}/b.mp4", "~/b.mp4", "deep/../b.mp4", f"{tmp_path}//./b.mp4"):
        jobs = write(tmp_path / "jobs.jsonl", [SOURCES[0] | {"out": "b.mp4"}, SOURCES[1] | {"video": video}])
        for out in (str(tmp_path), ".", "../" + tmp_path.name):
            with pytest.raises(SettingsError, match=r"out b\.mp4 of job 1 would replace the video of job 2"):
                read_job_list(jobs, out)


def test_all_outputs_that_would_replace_a_source_are_named_also_in_a_bucket(tmp_path: Path) -> None:
    rows = [{"job_id": name, "video": f"s3://films/{name}.mp4", "speech": "s.wav", "out": out} for name, out in (("a", "b.mp4"), ("b", "s3://films/./a.mp4"))]
    jobs = write(tmp_path / "jobs.jsonl", rows)
    with pytest.raises(SettingsError) as error:
        read_job_list(jobs, "s3://films/")
    assert "out b.mp4 of job a would replace the video of job b; out s3://films/./a.mp4 of job b would replace the video of job a" in str(error.value)
