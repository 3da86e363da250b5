"""The review room as people use it: real API servers of Airflow, a real browser, two windows.

By `make soak`: real servers and a browser take minutes to start.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dags.review_room.list_view import PAGE_ROWS
from schemas.review import ReviewBatch
from tests.airflow_api import token_of
from tests.dags.review_room.made_up import DATA_PYTHON, HELD, SECONDS, made_up_item, write_batch
from tests.dags.review_room.server import ROOM, Servers, airflow_servers, client_of, services
from tests.postgres_server import postgres_server

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
BATCH = "monday.csv"
SEED = 20260731
PATIENCE_MS = 240_000
"""Longest wait of a browser for something: a busy machine takes its time."""
SCRIPT = "<script>window.broken = true</script><img src=x onerror='window.broken = true'> & \"quotes\"\nsecond line"

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium (Debian: apt install chromium)"),
    pytest.mark.timeout(1800),
    pytest.mark.soak,
]


@dataclass
class House:
    """Servers and a browser."""

    servers: Servers
    ports: list[int]
    urls: list[str]
    browser: Any

    def window(self, name: str, path: str = f"/batches/{BATCH}", server: int = 0, **options: Any) -> Any:
        """A window of a person of that name, on a page of the room."""
        url = self.urls[server]
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies([{"name": "_token", "value": token_of(url, name, name * 2), "url": url}])
        page = context.new_page()
        page.goto(f"{url}{ROOM}{path}")
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests: Playwright runs once in a thread."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is in the test requirements of the control environment")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def house(folder: Path, browser: Any, servers: int = 1, **databases: str) -> Iterator[House]:
    write_batch(folder / "review", BATCH, title="Monday", videos=DATA_PYTHON.exists())
    ports = services.free_ports(servers)
    with airflow_servers(folder / "servers", str(folder / "review"), **databases) as started:
        yield House(started, ports, [started.start(port) for port in ports], browser)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[House]:
    """One server over SQLite, with all defaults."""
    with house(tmp_path_factory.mktemp("one"), browser) as made:
        yield made


def write(page: Any, texts: list[str]) -> None:
    """Presses send for one message after the other, as fast as the page takes them."""
    page.evaluate(
        """(texts) => {
            const [input, form] = [document.getElementById("message"), document.getElementById("composer")];
            for (const text of texts) { input.value = text; form.requestSubmit(); }
        }""",
        texts,
    )


def shown(page: Any) -> list[list[str]]:
    """Number and text of the messages on a page, in order; those on their way have no number."""
    script = 'list => list.map(one => [one.dataset.number ?? "", one.querySelector(".text").textContent])'
    return page.eval_on_selector_all("#messages > li", script)  # type: ignore[no-any-return]


def wait_for(page: Any, count: int) -> None:
    page.wait_for_function("count => document.querySelectorAll('#messages > li[data-number]').length >= count", arg=count, timeout=PATIENCE_MS)


def require_same(windows: list[Any], written: list[str]) -> None:
    """All windows show just what was written, each once, in one order, and nothing is on its way any more."""
    for window in windows:
        wait_for(window, len(written))
    lists = [shown(window) for window in windows]
    assert all(one == lists[0] for one in lists)
    numbers = [int(number) for number, _ in lists[0] if number]
    assert numbers == list(range(numbers[0], numbers[0] + len(written)))
    assert sorted(text for _, text in lists[0]) == sorted(written)


def close(*pages: Any) -> None:
    for page in pages:
        page.context.close()


def batch_of_its_own(made: House, risks: dict[str, float]) -> Path:
    """The folder of a batch that nobody has seen."""
    return write_batch(Path(made.servers.environment["DUBMILL_REVIEW"]), f"batch-{secrets.token_hex(4)}", risks)


def room_of_its_own(made: House) -> str:
    """The path of a batch that nobody has written about."""
    return f"/batches/{batch_of_its_own(made, {'x': 0.5}).name}"


def wait_for_item(page: Any, job_id: str) -> None:
    """Until a dub is shown and nothing of it is on its way any more."""
    script = "id => document.getElementById('item-name').textContent === id && document.getElementById('item').ariaBusy === 'false'"
    page.wait_for_function(script, arg=job_id)


def verdicts_sent_by(page: Any) -> list[Any]:
    """The requests with verdicts that a page sends from now on."""
    sent: list[Any] = []

    def note(request: Any) -> None:
        if request.method == "POST" and request.url.endswith("/verdicts"):
            sent.append(request)

    page.on("request", note)
    return sent


def exchange(made: House, each: int, between: Callable[[], None] = lambda: None, second: int = 0) -> None:
    """Two people write at once; something happens in the middle; all is there, once, in one order, in both windows and in a third that comes late."""
    path = room_of_its_own(made)
    a, b = made.window("ann", path), made.window("ben", path, server=second)
    texts = {name: [f"{name} {number} {SEED * (number + 1) % 997}" for number in range(each)] for name in ("ann", "ben")}
    middle = each // 2
    for window, name in ((a, "ann"), (b, "ben")):
        write(window, texts[name][:middle])
    between()
    for window, name in ((a, "ann"), (b, "ben")):
        write(window, texts[name][middle:])
    require_same([a, b], texts["ann"] + texts["ben"])
    order = [text for _, text in shown(a)]
    for name, own in texts.items():
        assert [text for text in order if text.startswith(name)] == own  # as each wrote them
    late = made.window("vic", path)
    late.wait_for_function("count => document.querySelectorAll('#messages > li').length > 0", arg=1)
    while late.locator("#earlier").is_visible():
        late.locator("#earlier").click()
        late.wait_for_timeout(300)
    require_same([a, late], texts["ann"] + texts["ben"])
    close(a, b, late)


def restarted(made: House, server: int = 0) -> Callable[[], None]:
    def restart() -> None:
        made.servers.kill(made.ports[server])
        made.servers.start(made.ports[server])

    return restart


def test_two_windows_show_the_same_in_the_same_order_though_the_server_is_killed(one: House) -> None:
    exchange(one, each=12, between=restarted(one))


def test_a_message_is_on_the_list_at_once_and_in_the_other_window_soon(one: House) -> None:
    path = room_of_its_own(one)
    a, b = one.window("ann", path), one.window("uma", path)
    for window in (a, b):
        window.wait_for_selector("#connection[data-state=live]")
    write(a, [SCRIPT])
    assert shown(a)[0][1] == SCRIPT  # before any answer of the server
    wait_for(b, 1)
    assert shown(b) == [["1", SCRIPT]]
    wait_for(a, 1)
    for window in (a, b):
        assert window.evaluate("window.broken === undefined && !document.querySelector('#messages img, #messages script')")
    close(a, b)


def test_what_was_written_offline_is_kept_over_a_reload_and_sent_once(one: House) -> None:
    path = room_of_its_own(one)
    a, b = one.window("ann", path), one.window("ben", path)
    a.wait_for_selector("#connection[data-state=live]")
    a.route("**/messages", lambda route: route.abort())
    write(a, ["first", "second"])
    a.wait_for_selector("li[data-state=pending]")
    write(b, ["from elsewhere"])
    wait_for(b, 1)
    a.unroute("**/messages")
    a.reload()
    require_same([a, b], ["from elsewhere", "first", "second"])
    assert a.evaluate("Object.keys(localStorage).length") == 0
    close(a, b)


def test_who_has_no_role_gets_403_and_viewers_have_no_form(one: House) -> None:
    guest = one.window("guest")
    assert guest.goto(f"{one.urls[0]}{ROOM}/").status == 403
    viewer = one.window("vic")
    viewer.wait_for_selector("#item:not([hidden])")
    assert viewer.locator("#composer, .verdict button").count() == 0
    viewer.keyboard.press("a")
    with client_of(one.urls[0], "vic") as client:
        assert client.post(f"/batches/{BATCH}/messages", json={"message_id": "x", "text": "x"}).status_code == 403
        assert {row["verdict"] for row in client.get(f"/batches/{BATCH}/verdicts").json()} == {None}
    with client_of(one.urls[0], "guest") as client:
        assert client.get("/").status_code == client.get(f"/batches/{BATCH}/stream").status_code == 403
    close(guest, viewer)


def test_a_batch_is_worked_through_by_keyboard_and_others_see_it(one: House) -> None:
    a, b = one.window("ann"), one.window("ben")
    faults: list[str] = []
    for window in (a, b):
        window.on("pageerror", lambda error: faults.append(str(error)))
        window.wait_for_selector("#item:not([hidden])")
    assert a.locator("#item-name").inner_text() == "anna-003"
    a.keyboard.press("j")
    a.wait_for_function("() => document.getElementById('item-name').textContent === 'ben-012'")
    a.keyboard.press("a")
    b.wait_for_selector(".row[data-key=ben-012][data-verdict=approve]")
    a.keyboard.press("k")
    a.wait_for_function("() => document.getElementById('item-name').textContent === 'anna-003'")
    a.keyboard.press("d")
    a.wait_for_selector("#redo[open]")
    a.fill("#redo-references", "10")
    a.click("#redo-form button[type=submit]")
    b.wait_for_selector(".row[data-key=anna-003][data-verdict=redo]")
    b.wait_for_function("() => document.getElementById('history').textContent.includes('references: 10')")
    a.keyboard.press("?")
    assert a.locator("#keys").is_visible()
    a.keyboard.press("Escape")
    a.keyboard.press("/")
    a.keyboard.type("a j k r are letters here")
    assert a.locator("#message").input_value() == "a j k r are letters here"
    assert a.locator("#item-name").inner_text() == "anna-003"
    assert faults == []
    close(a, b)


def test_what_the_gate_holds_cannot_be_approved_and_the_page_says_why(one: House) -> None:
    page = one.window("ann", f"/batches/{BATCH}?item={HELD}")
    page.wait_for_function(f"() => document.getElementById('item-name').textContent === '{HELD}'")
    assert "Held by the gate jitter is 0.051, over 0.03." in " ".join(page.locator("#item-gate").inner_text().split())
    assert page.locator("button[data-verdict=approve]").is_disabled()
    page.keyboard.press("a")
    page.wait_for_function("() => document.getElementById('toast').textContent.includes('The gate holds it')")
    page.keyboard.press("k")
    page.wait_for_function(f"() => document.getElementById('item-name').textContent !== '{HELD}'")
    assert page.locator("button[data-verdict=approve]").is_enabled()
    close(page)


def test_keys_decide_nothing_before_the_dub_that_they_opened_is_shown(one: House) -> None:
    path = f"/batches/{batch_of_its_own(one, {'x': 0.5, 'y': 0.4}).name}"
    page = one.window("ann", path)
    wait_for_item(page, "x")
    late: list[Any] = []
    sent = verdicts_sent_by(page)

    def hold(route: Any) -> None:
        late.append(route)

    page.route("**/items/y", hold)
    for key in "jard":
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    assert (len(late), sent, page.locator("#redo[open]").count()) == (1, [], 0)
    page.click("button[data-verdict=reject]")
    page.wait_for_timeout(500)
    assert sent == []
    late[0].continue_()
    wait_for_item(page, "y")
    page.keyboard.press("r")
    page.wait_for_selector(".row[data-key=y][data-verdict=reject]")
    assert [request.url.endswith("/items/y/verdicts") for request in sent] == [True]
    assert page.locator(".row[data-key=x]").get_attribute("data-verdict") == ""
    close(page)


def test_a_redo_leaves_a_face_alone_that_is_no_usual_choice(one: House) -> None:
    folder = batch_of_its_own(one, {"x": 0.5})
    item = made_up_item("x", 0.5)
    own = {**item.settings, "face": "/pictures/anna.png"}
    (folder / "items" / "x.json").write_text(item.model_copy(update={"settings": own}).model_dump_json())
    page = one.window("ann", f"/batches/{folder.name}")
    wait_for_item(page, "x")
    sent = verdicts_sent_by(page)
    page.keyboard.press("d")
    page.wait_for_selector("#redo[open]")
    assert page.locator("#redo-face").input_value() == "/pictures/anna.png"
    page.select_option("#redo-face", "left")
    page.select_option("#redo-face", "/pictures/anna.png")
    page.fill("#redo-references", "10")
    page.click("#redo-form button[type=submit]")
    page.wait_for_selector(".row[data-key=x][data-verdict=redo]")
    assert [request.post_data_json["settings"] for request in sent] == [{"references": 10}]
    close(page)


def test_a_link_opens_its_dub_wherever_it_is_listed_and_no_other_in_its_place(one: House) -> None:
    folder = batch_of_its_own(one, {"j0000": 0.5, "j0204": 0.5})
    rows = tuple(made_up_item(f"j{number:04d}", 0.5).row() for number in range(PAGE_ROWS + 5))
    (folder / "batch.json").write_text(ReviewBatch(rows=rows).model_dump_json())
    page = one.window("ann", f"/batches/{folder.name}?item=j0204")
    wait_for_item(page, "j0204")
    with page.expect_response("**/progress") as told:
        page.keyboard.press("r")
    page.wait_for_selector(".row[data-key=j0204][data-verdict=reject]")
    assert len(told.value.json()["rows"]) == 5  # of the page, not of the batch
    assert page.locator("#progress").inner_text() == f"1 of {PAGE_ROWS + 5} decided"
    page.goto(f"{one.urls[0]}{ROOM}/batches/{folder.name}?item=gone")
    page.wait_for_function("() => document.getElementById('item-empty').textContent === 'This dub is not in this batch any more.'")
    assert not page.locator("#item").is_visible()
    assert page.locator(".row[aria-current]").count() == 0
    page.keyboard.press("j")
    wait_for_item(page, "j0000")
    close(page)


FRAME = """video => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0);
    let number = 0;
    for (let bit = 0; bit < 10; bit += 1) if (context.getImageData(20 + 20 * bit, 20, 1, 1).data[0] > 127) number |= 1 << bit;
    return number;
}"""
"""Reads the number that is drawn into each frame of the made-up videos."""


@pytest.mark.skipif(not DATA_PYTHON.exists(), reason="needs the data environment, which draws the videos")
def test_source_and_dub_show_the_same_frame_wherever_they_are(one: House) -> None:
    page = one.window("vic")
    page.wait_for_function("() => ['source', 'dub'].every(id => document.getElementById(id).readyState >= 2)")

    def frames() -> tuple[int, int, int]:
        page.wait_for_function("() => ['source', 'dub'].every(id => !document.getElementById(id).seeking && document.getElementById(id).readyState >= 2)")
        page.wait_for_timeout(250)
        said = int(page.locator("#position").inner_text().rpartition("frame ")[2])
        return said, page.eval_on_selector("#source", FRAME), page.eval_on_selector("#dub", FRAME)

    assert frames() == (20, 20, 20)  # the worst moment begins at 0.8 s
    page.keyboard.press("ArrowRight")
    assert frames() == (21, 21, 21)
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert frames() == (18, 18, 18)
    page.keyboard.press("Shift+ArrowRight")
    assert frames() == (43, 43, 43)
    page.keyboard.press("m")
    page.keyboard.press("m")
    assert frames() == (62, 62, 62)  # the next moment begins at 2.5 s
    box = page.locator("#timeline").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 10)
    said, *both = frames()
    assert both == [said, said]
    assert abs(said - 25 * SECONDS / 2) <= 1
    page.keyboard.press(" ")
    page.wait_for_function("() => document.getElementById('dub').currentTime > 3.6")
    apart_s = page.evaluate("Math.abs(document.getElementById('dub').currentTime - document.getElementById('source').currentTime)")
    page.keyboard.press(" ")
    assert apart_s < 0.3
    said, *both = frames()
    assert max(both) - min(both) <= 1
    close(page)


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_nothing_sticks_out_of_the_page_on_desktop_and_phone(one: House, width: int, height: int) -> None:
    page = one.window("ann", viewport={"width": width, "height": height}, locale="zh-CN")
    page.wait_for_selector("#item:not([hidden])")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    for tab in ("items", "item", "room"):
        if width < 1000:
            page.click(f".tabs [data-tab={tab}]")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight")
        panel = page.locator(f"#panel-{tab}")
        assert panel.is_visible()
        assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth + 1")
    visible = [tab for tab in ("items", "item", "room") if page.locator(f"#panel-{tab}").is_visible()]
    assert visible == (["room"] if width < 1000 else ["items", "item", "room"])
    close(page)


KEEP_STREAMS = """() => {
    window.streams = [];
    window.EventSource = class extends EventSource { constructor(url) { super(url); window.streams.push(this); } };
}"""
HIDE = """isHidden => {
    Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def set_hidden(page: Any, *, is_hidden: bool) -> None:
    """As another tab in front of it does; a browser without a screen never hides one."""
    page.evaluate(HIDE, is_hidden)


def open_streams(page: Any) -> int:
    return int(page.evaluate("window.streams.filter(one => one.readyState !== EventSource.CLOSED).length"))


def test_a_tab_that_was_hidden_held_no_stream_and_has_missed_nothing(one: House) -> None:
    path = room_of_its_own(one)
    a, b = one.window("ann", path), one.window("ben", path)
    a.add_init_script(f"({KEEP_STREAMS})()")
    a.reload()
    for window in (a, b):
        window.wait_for_selector("#connection[data-state=live]")
        wait_for_item(window, "x")
    write(b, ["before"])
    wait_for(a, 1)
    assert open_streams(a) == 1
    set_hidden(a, is_hidden=True)
    write(b, [f"meanwhile {number}" for number in range(3)])
    b.keyboard.press("r")
    b.wait_for_selector(".row[data-key=x][data-verdict=reject]")
    wait_for(b, 4)
    a.wait_for_timeout(1500)
    assert (open_streams(a), len(shown(a))) == (0, 1)
    for is_hidden in (False, True, False):  # as one leafs through tabs
        set_hidden(a, is_hidden=is_hidden)
    require_same([a, b], ["before", *(f"meanwhile {number}" for number in range(3))])
    a.wait_for_selector(".row[data-key=x][data-verdict=reject]")
    a.wait_for_function("() => document.querySelector('#history [data-verdict=reject]')")
    write(b, ["after"])
    wait_for(a, 5)
    assert open_streams(a) == 1
    close(a, b)


def test_more_tabs_than_a_browser_keeps_connections_all_come_alive(one: House) -> None:
    path = room_of_its_own(one)
    page = one.window("ann", path)
    for _ in range(7):
        page.wait_for_selector("#connection[data-state=live]")
        set_hidden(page, is_hidden=True)
        page = page.context.new_page()
        page.goto(f"{one.urls[0]}{ROOM}{path}", timeout=25_000)  # a stream lives longer, and makes room when it ends
    page.wait_for_selector("#connection[data-state=live]")
    close(page)


def test_airflow_shows_the_room_in_its_own_page(one: House) -> None:
    page = one.window("ann")
    page.goto(f"{one.urls[0]}/plugin/review_room")
    frame = page.frame_locator("iframe")
    frame.locator("a.batch").first.click()
    frame.locator("#connection[data-state=live]").wait_for()
    frame.locator("#message").fill("from inside")
    frame.locator("#message").press("Enter")
    frame.locator("#messages > li[data-number]", has_text="from inside").wait_for()
    close(page)


def test_a_server_with_open_windows_stops_when_it_is_told_to(one: House) -> None:
    page = one.window("ann")
    page.wait_for_selector("#connection[data-state=live]")
    took_s = one.servers.stop(one.ports[0])
    one.servers.start(one.ports[0])
    page.wait_for_selector("#connection[data-state=live]")
    close(page)
    assert took_s < 30


@pytest.mark.soak
def test_a_hundred_messages_each_at_once(one: House) -> None:
    exchange(one, each=100)


@pytest.mark.soak
def test_a_hundred_messages_each_while_the_server_is_killed_and_restarted(one: House) -> None:
    exchange(one, each=100, between=restarted(one))


@pytest.mark.soak
def test_two_servers_on_postgres_behave_as_one(tmp_path: Path, browser: Any) -> None:
    """Airflow's own tables and the room's lie in one database; one of the two servers is killed in the middle and comes back."""
    with postgres_server() as postgres, house(tmp_path, browser, servers=2, database=postgres.url, airflow_database=postgres.url) as two:
        exchange(two, each=100, second=1)
        exchange(two, each=100, second=1, between=restarted(two, server=1))


@pytest.mark.soak
def test_a_server_is_killed_again_and_again(one: House) -> None:
    path = room_of_its_own(one)
    a, b = one.window("ann", path), one.window("ben", path)
    written = []
    for life in range(4):
        texts = [f"life {life} message {number}" for number in range(10)]
        for window, name in ((a, "ann"), (b, "ben")):
            write(window, [f"{name} {text}" for text in texts])
            written += [f"{name} {text}" for text in texts]
        time.sleep(0.3 * life)
        restarted(one)()
    require_same([a, b], written)
    close(a, b)
