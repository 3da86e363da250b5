"""The review room's application: its routes, and what is answered when something is wrong."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as AnyHTTPException

from dags.review_room import access
from dags.review_room.guard import Guard
from dags.review_room.item_view import item_view, video_location
from dags.review_room.list_view import PAGE_ROWS, batch_summaries, row_views
from dags.review_room.material import FoundBatch
from dags.review_room.messages import Message, NewMessage, NotYoursError, TooFastError, messages_before
from dags.review_room.pages import language_of, page, static_file
from dags.review_room.progress import Progress, ShownKeys, page_of, progress
from dags.review_room.room import NotApprovableError, Rooms
from dags.review_room.stream import events, last_seen
from dags.review_room.verdicts import GivenVerdict, NewVerdict, latest_verdicts, verdicts_of
from dags.review_room.video import video_response
from schemas.errors import DubmillError, SettingsError, StoreError
from schemas.gate import Gate
from schemas.review import ReviewItem, check_redo

SHOWN_AT_FIRST = 200
"""Messages that a window gets when it opens a room; earlier ones are asked for."""
LAST_NUMBER = 2**31 - 1

Number = Annotated[int | None, Query(ge=0, le=LAST_NUMBER)]


def application(rooms: Rooms | None = None) -> Guard:
    """The application behind Airflow's login: who may not see the DAG's runs sees nothing of it."""
    app = FastAPI(
        title="Review room", dependencies=[Depends(access.may_read)], docs_url=None, redoc_url=None, openapi_url=None, default_response_class=JSONResponse
    )
    app.state.rooms = rooms or Rooms()
    _add_pages(app)
    _add_items(app)
    _add_room(app)
    answers = {
        AnyHTTPException: _refused,
        RequestValidationError: _misunderstood,
        DubmillError: _faulty,
        SQLAlchemyError: _away,
        TooFastError: _too_fast,
        NotYoursError: _taken,
    }
    for kind, answer in answers.items():
        app.add_exception_handler(kind, answer)
    return Guard(app)


def _rooms(request: Request) -> Rooms:
    return request.app.state.rooms


AllRooms = Annotated[Rooms, Depends(_rooms)]


def _batch(batch: str, rooms: AllRooms) -> FoundBatch:
    """The batch that an address names."""
    found = rooms.material.batch(batch)
    if found is None:
        raise HTTPException(404, "There is no such batch.")
    return found


Batch = Annotated[FoundBatch, Depends(_batch)]


def _item(key: str, batch: Batch, rooms: AllRooms) -> ReviewItem:
    """The dub that an address names."""
    item = rooms.material.item(batch, key)
    if item is None:
        raise HTTPException(404, "There is no such dub in this batch.")
    return item


Item = Annotated[ReviewItem, Depends(_item)]


def _add_pages(app: FastAPI) -> None:
    @app.get("/")
    def show_batches(request: Request, rooms: AllRooms) -> Response:
        return page(request, "batches.html.j2", batches=batch_summaries(rooms), has_prefixes=bool(rooms.material.prefixes))

    @app.get("/batches/{batch}")
    def show_batch(
        request: Request,
        batch: Batch,
        rooms: AllRooms,
        author: access.Author,
        writes: access.Writes,
        number: Annotated[int, Query(alias="page", ge=1, le=LAST_NUMBER)] = 1,
        item: str = "",
    ) -> Response:
        rows = row_views(batch, latest_verdicts(rooms.database, batch.name))
        pages = max(1, -(-len(rows) // PAGE_ROWS))
        number = page_of(rows, item) or min(number, pages)
        shown = rows[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
        return page(request, "batch.html.j2", batch=batch, rows=shown, all_rows=rows, page=number, pages=pages, author=author, writes=writes)

    # No route of FastAPI, whose dependency lets nobody in without a role: the page that says so has a look, too. Scripts import each other by
    # name alone: the version before it is that of all.
    app.add_route("/static/{version}/{name}", _give_static)


def _give_static(request: Request) -> Response:
    """A script or style, for everybody: nothing in it is anybody's."""
    file = static_file(request.path_params["name"])
    if file is None:
        raise HTTPException(404, "There is no such file.")
    return file


def _add_items(app: FastAPI) -> None:
    @app.get("/batches/{batch}/items/{key}")
    def give_item(request: Request, batch: Batch, item: Item, rooms: AllRooms) -> dict[str, Any]:
        gate = batch.content.gate if batch.content else Gate()
        return item_view(item, verdicts_of(rooms.database, batch.name, item.job_id), language_of(request), gate)

    @app.get("/batches/{batch}/items/{key}/{which}.mp4")
    def give_video(request: Request, which: str, batch: Batch, item: Item, rooms: AllRooms) -> Response:
        location = video_location(item, which)
        video = rooms.material.video(batch, location) if location else None
        if video is None:
            raise HTTPException(404, "The video is not there.")
        return video_response(video, request.headers)

    @app.get("/batches/{batch}/verdicts")
    def give_rows(batch: Batch, rooms: AllRooms) -> list[dict[str, Any]]:
        return [row.model_dump() for row in row_views(batch, latest_verdicts(rooms.database, batch.name))]

    @app.post("/batches/{batch}/progress")  # posted for its length alone: a page's keys are longer than an address may be
    def give_progress(shown: ShownKeys, batch: Batch, rooms: AllRooms) -> Progress:
        return progress(batch, latest_verdicts(rooms.database, batch.name), shown)

    @app.post("/batches/{batch}/items/{key}/verdicts", dependencies=[Depends(access.may_write)])
    async def take_verdict(new: NewVerdict, batch: Batch, item: Item, rooms: AllRooms, author: access.Author) -> GivenVerdict:
        if (new.fingerprint, new.version) != (item.fingerprint, item.version):
            raise HTTPException(409, "This dub was made anew meanwhile; load the page again and look at it.")
        if bool(new.settings) != (new.verdict == "redo"):
            raise HTTPException(422, "A redo says what to change, and nothing else does.")
        try:
            return await rooms.give(batch, item, new.model_copy(update={"settings": check_redo(new.settings, item.settings)}), author)
        except NotApprovableError as error:
            raise HTTPException(409, str(error)) from error


def _add_room(app: FastAPI) -> None:
    @app.post("/batches/{batch}/messages", dependencies=[Depends(access.may_write)])
    async def take_message(new: NewMessage, batch: Batch, rooms: AllRooms, author: access.Author) -> Message:
        return await rooms.post(batch.name, new, author)

    @app.get("/batches/{batch}/messages")
    def give_earlier(batch: Batch, rooms: AllRooms, before: Number = None) -> list[Message]:
        return messages_before(rooms.database, batch.name, LAST_NUMBER if before is None else before, SHOWN_AT_FIRST)

    @app.get("/batches/{batch}/stream")
    async def give_stream(request: Request, batch: Batch, rooms: AllRooms, after: Number = None) -> Response:
        database = await to_thread.run_sync(lambda: rooms.database)
        number = last_seen(request.headers.get("last-event-id"), after)
        if number is None:
            latest = await to_thread.run_sync(messages_before, database, batch.name, LAST_NUMBER, SHOWN_AT_FIRST)
            number = latest[0].number - 1 if latest else 0
        told: AsyncIterator[str] = events(database, rooms.watch, batch.name, number)
        return StreamingResponse(told, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _refused(request: Request, error: AnyHTTPException) -> Response:
    """401, 403, 404 and the like: a page where a person asked for one, JSON for scripts."""
    if not _wants_page(request):
        return await http_exception_handler(request, error)
    if error.status_code == 401:
        from airflow.api_fastapi.app import get_auth_manager  # it is there only once the server runs

        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)), 303)
    said = {403: "not_allowed", 404: "not_found"}.get(error.status_code, "went_wrong")
    return page(request, "fault.html.j2", error.status_code, said=said, detail="" if error.status_code == 403 else str(error.detail))


async def _faulty(request: Request, error: Exception) -> Response:
    """What a person can mend, in its own sentence."""
    if isinstance(error, SettingsError) and not _wants_page(request):
        return JSONResponse({"detail": str(error)}, 422)
    return _unavailable(request, str(error) if isinstance(error, SettingsError | StoreError) else "")


async def _away(request: Request, _error: Exception) -> Response:
    return _unavailable(request, "The review room's database does not answer just now.")


async def _misunderstood(request: Request, error: RequestValidationError) -> Response:
    """Says what is wrong without repeating what was sent, which may be text that cannot be sent back."""
    sentence = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
    if _wants_page(request):
        return page(request, "fault.html.j2", 422, said="went_wrong", detail=sentence)
    return JSONResponse({"detail": sentence}, 422)


async def _too_fast(_request: Request, error: TooFastError) -> Response:
    return JSONResponse({"detail": str(error)}, 429, headers={"Retry-After": f"{error.wait_s:.0f}"})


async def _taken(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "Somebody else has written under this id."}, 409)


def _unavailable(request: Request, sentence: str) -> Response:
    if _wants_page(request):
        return page(request, "fault.html.j2", 503, said="went_wrong", detail=sentence)
    return JSONResponse({"detail": sentence}, 503, headers={"Retry-After": "2"})


def _wants_page(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")
