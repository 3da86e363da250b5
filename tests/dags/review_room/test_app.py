"""The review room's pages and routes: who may do what, what is answered, and what is never answered."""

import html
import json
import re
from pathlib import Path

import pytest

from dags.review_room import messages
from dags.review_room import room as room_module
from dags.review_room.guard import LARGEST_BODY
from dags.review_room.list_view import PAGE_ROWS
from dags.review_room.words import PAGE
from schemas.gate import Gate
from schemas.review import ReviewBatch
from tests.dags.review_room.conftest import BATCH, ClientOf, new_message, new_verdict
from tests.dags.review_room.made_up import HELD, RISKS, made_up_item, write_batch

ROOM = f"/batches/{BATCH}"
READS = ("/", ROOM, f"{ROOM}/verdicts", f"{ROOM}/messages", f"{ROOM}/items/anna-003", f"{ROOM}/items/anna-003/dub.mp4")
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("name", ["ann", "ben", "uma", "vic"])
def test_every_role_reads(client_of: ClientOf, name: str) -> None:
    client = client_of(name)
    assert [client.get(url).status_code for url in READS] == [200] * len(READS)


def test_who_has_no_role_sees_nothing(client_of: ClientOf) -> None:
    client = client_of("guest")
    assert {client.get(url).status_code for url in [*READS, f"{ROOM}/stream", "/batches/none"]} == {403}
    refusal = client.get(ROOM, headers=HTML)
    [style] = re.findall(r'href="(/static/[^"]+)"', refusal.text)
    assert (refusal.status_code, client.get(style).status_code) == (403, 200)


@pytest.mark.parametrize(("name", "status"), [("ann", 200), ("ben", 200), ("uma", 200), ("vic", 403), ("guest", 403)])
def test_who_may_edit_the_dags_runs_writes_and_decides(client_of: ClientOf, name: str, status: int) -> None:
    client = client_of(name)
    assert client.post(f"{ROOM}/messages", json=new_message(1)).status_code == status
    assert client.post(f"{ROOM}/items/anna-003/verdicts", json=new_verdict(1)).status_code == status
    page = client_of("vic").get(ROOM).text
    assert 'id="composer"' not in page
    assert PAGE["read_only"][0] in page


def test_who_is_not_logged_in_is_sent_to_the_login_and_scripts_are_told(client_of: ClientOf) -> None:
    client = client_of("ann")
    del client.headers["x-user"]
    assert client.get(ROOM).status_code == 401
    answer = client.get(ROOM, headers=HTML, follow_redirects=False)
    assert (answer.status_code, "login" in answer.headers["location"], "next=" in answer.headers["location"]) == (303, True, True)


def test_nothing_describes_the_application_to_strangers(client_of: ClientOf) -> None:
    assert [client_of("ann").get(url).status_code for url in ("/docs", "/redoc", "/openapi.json")] == [404] * 3


def test_pages_allow_no_script_but_the_rooms_own(client_of: ClientOf) -> None:
    for url in READS[:2]:
        answer = client_of("ann").get(url)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy
        scripts = re.findall(r"<script\b[^>]*>", answer.text)
        assert all('type="application/json"' in script or " src=" in script for script in scripts)
        assert not re.search(r"""\son\w+=|style=["']|javascript:|https?://""", answer.text)


def test_what_a_page_names_is_there(client_of: ClientOf) -> None:
    client = client_of("ann")
    page = client.get(ROOM).text
    for url in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        answer = client.get(url)
        assert answer.status_code == 200
        for name in re.findall(r'from "\./(\w+\.js)"', answer.text):
            assert client.get(f"{url.rpartition('/')[0]}/{name}").status_code == 200
    for name in ("../app.py", "..%2fapp.py", "batch.html.j2", "none.js"):
        assert client.get(f"/static/x/{name}").status_code == 404


def test_text_of_the_material_stays_text(client_of: ClientOf, prefix: Path) -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'
    write_batch(prefix, "evil", {evil: 0.5}, title=evil, note=evil)
    client = client_of("ann")
    for url in ("/", "/batches/evil"):
        text = client.get(url).text
        assert "<script>alert" not in text
        assert "<img" not in text
    (row,) = client.get("/batches/evil/verdicts").json()
    assert (row["job_id"], row["key"][0]) == (evil, "~")
    assert client.get(f"/batches/evil/items/{row['key']}").json()["job_id"] == evil


def test_dubs_come_the_riskiest_first_and_moments_the_worst_first(client_of: ClientOf) -> None:
    page = client_of("ann").get(ROOM).text
    assert re.findall(r'class="name">([^<]+)<', page) == sorted(RISKS, key=lambda job_id: -RISKS[job_id])
    moments = client_of("ann").get(f"{ROOM}/items/anna-003").json()["moments"]
    assert [moment["confidence"] for moment in moments] == sorted(moment["confidence"] for moment in moments)
    assert len(moments) == 3


def test_an_item_tells_no_more_of_where_things_lie_than_its_page_shows(client_of: ClientOf) -> None:
    told = client_of("ann").get(f"{ROOM}/items/anna-003").json()
    assert not {"job", "source", "dub_preview"} & set(told)
    assert "/footage" not in json.dumps(told)


def _write_long(prefix: Path) -> None:
    """A batch of more than a page; the last five lie on the second."""
    (prefix / "long").mkdir()
    rows = tuple(made_up_item(f"j{number:04d}", 0.5).row() for number in range(PAGE_ROWS + 5))
    (prefix / "long" / "batch.json").write_text(ReviewBatch(rows=rows).model_dump_json())


def test_a_long_batch_is_shown_in_pages(client_of: ClientOf, prefix: Path) -> None:
    _write_long(prefix)
    client = client_of("ann")
    assert client.get("/batches/long").text.count('class="row"') == PAGE_ROWS
    assert client.get("/batches/long?page=2").text.count('class="row"') == 5
    assert client.get("/batches/long?page=99").text.count('class="row"') == 5
    assert client.get("/batches/long?page=0").status_code == 422


def test_an_address_of_a_dub_leads_to_the_page_that_lists_it(client_of: ClientOf, prefix: Path) -> None:
    _write_long(prefix)
    client = client_of("ann")
    last = f"j{PAGE_ROWS + 4:04d}"
    links = re.findall(r'class="row" href="([^"]+)"', client.get("/batches/long?page=2").text)
    assert html.unescape(links[-1]) == f"?page=2&item={last}"
    assert re.findall(r'class="row" href="([^"]+)"', client.get("/batches/long").text)[0] == "?item=j0000"
    for query in (f"item={last}", f"page=2&item={last}", f"page=1&item={last}"):  # shared before or after it moved
        assert f'data-key="{last}"' in client.get(f"/batches/long?{query}").text
    assert 'data-key="j0000"' in client.get("/batches/long?page=2&item=j0000").text
    for query, first in (("item=gone", "j0000"), ("page=2&item=gone", f"j{PAGE_ROWS:04d}")):
        assert re.findall(r'data-key="([^"]+)"', client.get(f"/batches/long?{query}").text)[0] == first


def test_a_page_asks_for_its_own_dubs_and_the_counts_are_the_whole_batchs(client_of: ClientOf, prefix: Path) -> None:
    _write_long(prefix)
    folder = prefix / "long" / "items"
    folder.mkdir()
    (folder / "j0204.json").write_text(made_up_item("j0204", 0.5).model_dump_json())
    assert client_of("ann").post("/batches/long/items/j0204/verdicts", json=new_verdict(1, "reject")).status_code == 200
    told = client_of("vic").post("/batches/long/progress", json={"keys": ["j0003", "j0204", "gone"]}).json()
    assert (told["decided"], told["dubs"]) == (1, PAGE_ROWS + 5)
    assert [(row["key"], row["verdict"], row["author"]) for row in told["rows"]] == [("j0003", None, ""), ("j0204", "reject", "ann")]
    first_page = client_of("vic").post("/batches/long/progress", json={"keys": ["j0003"]}).json()
    assert (first_page["decided"], len(first_page["rows"])) == (1, 1)
    keys = [f"{number:0100d}" for number in range(PAGE_ROWS)]  # the longest there are
    assert client_of("vic").post("/batches/long/progress", json={"keys": keys}).status_code == 200
    assert client_of("vic").post("/batches/long/progress", json={"keys": [*keys, "one more"]}).status_code == 422
    assert client_of("guest").post("/batches/long/progress", json={"keys": []}).status_code == 403


def test_a_verdict_on_a_former_dub_does_not_count_as_progress(client_of: ClientOf, prefix: Path) -> None:
    assert client_of("ann").post(f"{ROOM}/items/anna-003/verdicts", json=new_verdict(1)).status_code == 200
    anew = made_up_item("anna-003", 0.2, fingerprint="fedcba9876543210")
    (prefix / BATCH / "batch.json").write_text(ReviewBatch(rows=(anew.row(),)).model_dump_json())
    told = client_of("ann").post(f"{ROOM}/progress", json={"keys": ["anna-003"]}).json()
    assert (told["decided"], told["rows"][0]["verdict"]) == (0, None)


@pytest.mark.parametrize("query", ["self=1", "kwargs=1&args=2", "%F0%9F%98%80=%26%22"])
def test_an_address_may_name_anything_and_the_other_language_keeps_it(client_of: ClientOf, query: str) -> None:
    for url in READS[:2]:
        answer = client_of("ann").get(f"{url}?{query}")
        assert answer.status_code == 200
        (link,) = re.findall(r'id="other-language" href="([^"]+)"', answer.text)
        assert html.unescape(link) == f"?{query}&lang=zh"


@pytest.mark.parametrize("url", ["/batches/none", "/batches/%2e%2e", f"{ROOM}/items/none", f"{ROOM}/items/..%2f..%2fx", f"{ROOM}/items/anna-003/other.mp4"])
def test_what_is_not_there_is_not_found(client_of: ClientOf, url: str) -> None:
    assert client_of("ann").get(url).status_code == 404


def test_a_batch_that_cannot_be_read_says_why_and_hides_no_other(client_of: ClientOf, prefix: Path) -> None:
    (prefix / "broken").mkdir()
    (prefix / "broken" / "batch.json").write_text('{"rows": 3}')
    client = client_of("ann")
    page = client.get("/").text
    assert "is no review material: rows" in page
    assert "Monday&#39;s course" in page
    answer = client.get("/batches/broken", headers=HTML)
    assert (answer.status_code, "is no review material" in answer.text) == (503, True)
    assert client.post("/batches/none/messages", json=new_message(1)).status_code == 404


def test_each_language_is_asked_for_by_the_browser_or_chosen_and_then_kept(client_of: ClientOf) -> None:
    client = client_of("ann")
    said = {language: PAGE["batches"][number] for number, language in enumerate(("en", "zh"))}
    assert said["zh"] in client.get("/", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}).text
    assert said["en"] in client.get("/", headers={"Accept-Language": "de,en;q=0.5"}).text
    assert said["zh"] in client.get("/?lang=zh").text
    assert said["zh"] in client.get("/", headers={"Accept-Language": "en"}).text
    assert "头部转开" in client.get(ROOM).text
    assert client.get(f"{ROOM}/items/anna-003").json()["moments"][0]["reason"] == "头部转开"


def test_messages_are_posted_and_read_back(client_of: ClientOf) -> None:
    posted = client_of("uma").post(f"{ROOM}/messages", json=new_message(1, "  <b>hello</b>\n你好  ")).json()
    assert {name: posted[name] for name in ("number", "author", "text")} == {"number": 1, "author": "uma", "text": "<b>hello</b>\n你好"}
    assert client_of("vic").get(f"{ROOM}/messages").json() == [posted]
    assert client_of("ann").post(f"{ROOM}/messages", json=new_message(1)).status_code == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"message_id": "1", "text": "short id"}', 422),
        (json.dumps({**new_message(1), "author": "ben"}).encode(), 422),
        (b'{"message_id": "00000000-0000-4000-8000-000000000001", "text": "\\ud800"}', 422),
        (b"no JSON", 422),
        (b'{"text": "' + b"x" * LARGEST_BODY + b'"}', 413),
    ],
)
def test_messages_that_are_none_are_refused(client_of: ClientOf, body: bytes, status: int) -> None:
    assert client_of("ann").post(f"{ROOM}/messages", content=body, headers={"Content-Type": "application/json"}).status_code == status
    assert client_of("ann").get(f"{ROOM}/messages").json() == []


def test_a_body_of_unknown_length_is_refused(client_of: ClientOf) -> None:
    assert client_of("ann").post(f"{ROOM}/messages", content=iter([b"{}"]), headers={"Content-Type": "application/json"}).status_code == 411


def test_another_sites_page_cannot_write_with_a_persons_login(client_of: ClientOf) -> None:
    client = client_of("ann")
    assert client.post(f"{ROOM}/messages", json=new_message(1), headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    as_a_form = {"content": json.dumps(new_message(1)), "headers": {"Content-Type": "text/plain"}}
    assert client.post(f"{ROOM}/messages", **as_a_form).status_code == 422
    assert client.post(f"{ROOM}/messages", json=new_message(1), headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_who_writes_too_fast_is_told_when_to_try_again(client_of: ClientOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "BURST", 2)
    monkeypatch.setattr(messages, "REFILL_A_SECOND", 0.1)
    answers = [client_of("ann").post(f"{ROOM}/messages", json=new_message(number)) for number in range(8)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_a_database_that_is_away_is_said_and_tried_again(client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = client_of("ann")
    monkeypatch.setattr(room_module, "AGAIN_S", 0.0)
    (tmp_path / "room.db").mkdir()  # no database can be opened there
    answer = client.get(f"{ROOM}/messages")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert client.post(f"{ROOM}/messages", json=new_message(1)).status_code == 503
    (tmp_path / "room.db").rmdir()
    assert client.post(f"{ROOM}/messages", json=new_message(1)).status_code == 200


def test_the_latest_verdict_counts_and_all_are_kept(client_of: ClientOf) -> None:
    url = f"{ROOM}/items/anna-003/verdicts"
    client_of("ann").post(url, json=new_verdict(1, "reject", note="teeth"))
    redo = new_verdict(2, "redo", settings={"references": 10, "face": "0"})
    for _ in range(2):  # sent twice, as after a lost answer
        assert client_of("ben").post(url, json=redo).json()["number"] == 2
    (row,) = (row for row in client_of("vic").get(f"{ROOM}/verdicts").json() if row["job_id"] == "anna-003")
    assert (row["verdict"], row["author"]) == ("redo", "ben")
    kept = client_of("vic").get(f"{ROOM}/items/anna-003").json()["verdicts"]
    assert [(one["verdict"], one["author"], one["settings"], one["note"]) for one in kept] == [
        ("redo", "ben", {"references": 10, "face": "0"}, ""),
        ("reject", "ann", {}, "teeth"),
    ]
    assert client_of("ann").post(url, json=redo).status_code == 409  # ben's id


def test_a_redo_of_one_angle_is_held_against_the_dubs_own_other(client_of: ClientOf, prefix: Path) -> None:
    item = made_up_item("anna-003", 0.83)
    own = {**item.settings, "fade_from_yaw_deg": 55.0, "gone_at_yaw_deg": 80.0}
    (prefix / BATCH / "items" / "anna-003.json").write_text(item.model_copy(update={"settings": own}).model_dump_json())
    url = f"{ROOM}/items/anna-003/verdicts"
    assert client_of("ann").post(url, json=new_verdict(1, "redo", settings={"fade_from_yaw_deg": 60})).status_code == 200
    refused = client_of("ann").post(url, json=new_verdict(2, "redo", settings={"gone_at_yaw_deg": 52}))
    assert (refused.status_code, "begins to fade" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    "bad",
    [
        new_verdict(1, "maybe"),
        new_verdict(1, "redo"),
        new_verdict(1, "approve", settings={"references": 10}),
        new_verdict(1, "redo", settings={"references": 0}),
        new_verdict(1, "redo", settings={"patch": "/etc"}),
        new_verdict(1, "redo", settings={"face": "/footage/somebody.png"}),
        new_verdict(1, "redo", settings={"fade_from_yaw_deg": 60}),
        new_verdict(1, note="x" * 1001),
        new_verdict(1, note="a\0b"),
    ],
)
def test_verdicts_that_are_none_are_refused(client_of: ClientOf, bad: dict[str, object]) -> None:
    assert client_of("ann").post(f"{ROOM}/items/anna-003/verdicts", json=bad).status_code == 422
    assert all(row["verdict"] is None for row in client_of("ann").get(f"{ROOM}/verdicts").json())


def test_what_is_not_there_cannot_be_approved(client_of: ClientOf, prefix: Path) -> None:
    (prefix / BATCH / "previews" / "face.dub.mp4").unlink()
    url = f"{ROOM}/items/anna-003/verdicts"
    assert client_of("ann").post(url, json=new_verdict(1)).status_code == 409
    assert client_of("ann").post(url, json=new_verdict(2, "reject")).status_code == 200


def test_a_dub_that_was_made_anew_under_the_same_name_cannot_be_approved_unseen(client_of: ClientOf, prefix: Path) -> None:
    file = prefix / BATCH / "items" / "anna-003.json"
    item = made_up_item("anna-003", 0.83)
    file.write_text(item.model_copy(update={"version": "of the former file"}).model_dump_json())
    answer = client_of("ann").post(f"{ROOM}/items/anna-003/verdicts", json=new_verdict(1, version="of the former file"))
    assert (answer.status_code, "was made anew since" in answer.json()["detail"]) == (409, True)


def test_what_the_gate_holds_cannot_be_approved_and_the_reason_is_told(client_of: ClientOf) -> None:
    url, ann = f"{ROOM}/items/{HELD}", client_of("ann")
    answer = ann.post(f"{url}/verdicts", json=new_verdict(1))
    assert (answer.status_code, answer.json()["detail"]) == (409, "The gate holds this dub: jitter is 0.051, over 0.03.")
    assert ann.get(url).json()["approvable"] is False
    assert ann.post(f"{url}/verdicts", json=new_verdict(2, "redo", settings={"smoothing": "none"})).status_code == 200
    assert ann.get(f"{ROOM}/items/anna-003").json()["approvable"] is True


def test_a_run_that_the_gate_holds_lets_none_of_its_dubs_out(client_of: ClientOf, prefix: Path) -> None:
    file = prefix / BATCH / "batch.json"
    whole = ReviewBatch.model_validate_json(file.read_bytes())
    file.write_text(whole.model_copy(update={"gate": Gate(status="held", sentence="2 of 9 jobs made a dub that passed.")}).model_dump_json())
    ann = client_of("ann")
    answer = ann.post(f"{ROOM}/items/anna-003/verdicts", json=new_verdict(1))
    assert (answer.status_code, answer.json()["detail"]) == (409, "The gate holds the whole run: 2 of 9 jobs made a dub that passed.")
    assert ann.get(f"{ROOM}/items/anna-003").json()["approvable"] is False
    assert "2 of 9 jobs made a dub that passed." in ann.get(ROOM, headers={"Accept": "text/html"}).text


def test_a_dub_that_was_made_anew_is_open_again(client_of: ClientOf, prefix: Path) -> None:
    url = f"{ROOM}/items/anna-003/verdicts"
    assert client_of("ann").post(url, json=new_verdict(1)).status_code == 200
    anew = made_up_item("anna-003", 0.2, fingerprint="fedcba9876543210")
    (prefix / BATCH / "items" / "anna-003.json").write_text(anew.model_dump_json())
    (prefix / BATCH / "batch.json").write_text(ReviewBatch(rows=(anew.row(),)).model_dump_json())
    (row,) = client_of("ann").get(f"{ROOM}/verdicts").json()
    assert row["verdict"] is None
    assert client_of("ann").post(url, json=new_verdict(2)).status_code == 409  # who looked at the former one decides nothing of this one


def test_a_dub_that_was_made_anew_of_other_content_under_the_same_row_is_open_again(client_of: ClientOf, prefix: Path) -> None:
    url = f"{ROOM}/items/anna-003/verdicts"
    assert client_of("ann").post(url, json=new_verdict(1, "reject")).status_code == 200
    anew = made_up_item("anna-003", 0.2).model_copy(update={"version": "7-later"})
    (prefix / BATCH / "items" / "anna-003.json").write_text(anew.model_dump_json())
    (prefix / BATCH / "batch.json").write_text(ReviewBatch(rows=(anew.row(),)).model_dump_json())
    (row,) = client_of("ann").get(f"{ROOM}/verdicts").json()
    assert row["verdict"] is None
    assert client_of("ann").post(url, json=new_verdict(2, "reject")).status_code == 409  # a page that was open since before
    assert client_of("ann").post(url, json=new_verdict(3, "reject", version="7-later")).status_code == 200


def test_videos_are_sent_in_ranges_and_only_those_that_an_item_names(client_of: ClientOf, prefix: Path) -> None:
    client, url = client_of("vic"), f"{ROOM}/items/anna-003/dub.mp4"
    whole = (prefix / BATCH / "previews" / "face.dub.mp4").read_bytes()
    answer = client.get(url, headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, whole[100:200], f"bytes 100-199/{len(whole)}")
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == ("video/mp4", "inline")
    assert client.get(url).content == whole
    assert client.get(url, headers={"Range": "bytes=1-2", "If-Range": '"other"'}).content == whole
    assert client.get(url, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert client.get(f"{ROOM}/items/anna-003/source.mp4").status_code == 404  # named, but not there
    assert client.get(f"{ROOM}/items/anna-003/face.dub.mp4").status_code == 404
