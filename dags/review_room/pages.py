"""The pages: which language, which template, and what the scripts on them are told."""

import hashlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dags.review_room.words import LANGUAGES, Language, page_words, preferred, reason_words

FOLDER = Path(__file__).parent
LANGUAGE_COOKIE = "review_language"
A_YEAR_S = 365 * 24 * 3600
STATIC = {file.name: file for file in sorted((FOLDER / "static").iterdir()) if file.suffix in (".js", ".css")}
"""The scripts and styles; nothing else is handed out."""


@cache
def static_version() -> str:
    """Changes with the scripts and styles, so that browsers may keep them and never keep old ones."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in STATIC.values())).hexdigest()[:12]


def static_file(name: str) -> FileResponse | None:
    """A script or style; None: there is none of that name."""
    kind = "text/css" if name.endswith(".css") else "text/javascript"
    return FileResponse(STATIC[name], media_type=kind, headers={"Cache-Control": "private, max-age=31536000, immutable"}) if name in STATIC else None


def language_of(request: Request) -> Language:
    """What the address says, or what was chosen before, or what the browser prefers."""
    for said in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        for language in LANGUAGES:
            if said == language:
                return language
    return preferred(request.headers.get("accept-language", ""))


def page(request: Request, template: str, status_code: int = 200, **content: Any) -> HTMLResponse:
    """A page in the language of whoever asks; a language that they have chosen is kept."""
    language = language_of(request)
    words = page_words(language)
    base = str(request.scope.get("root_path", ""))
    other = next(one for one in LANGUAGES if one != language)
    query = {**request.query_params, "lang": other}
    shared = {
        "words": SimpleNamespace(**words),  # a template finds `items` and `keys` in a dict as what dicts can do
        "all_words": words,
        "reason": lambda said: reason_words(said, language),
        "language": "zh-CN" if language == "zh" else language,
        "base": base,
        "version": static_version(),
        "other_language": urlencode(query),
    }
    answer = HTMLResponse(_templates().get_template(template).render(**shared, **content), status_code)
    if request.query_params.get("lang") == language:
        answer.set_cookie(LANGUAGE_COOKIE, language, max_age=A_YEAR_S, path=base or "/", samesite="lax", httponly=True)
    return answer


@cache
def _templates() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
