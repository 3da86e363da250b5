"""The form for another try: the settings that a reviewer may change, each with what it may be."""

from typing import Any

from pydantic import BaseModel, JsonValue

from dags.review_room.words import Language, setting_words
from schemas.review import REDO_SETTINGS
from schemas.settings import FACE_WORDS, DubSettings


class FormField(BaseModel):
    """A setting as a form shows it. kind: whole, number, choice or switch. value: what the dub was made with, which is one of the choices."""

    name: str
    label: str
    help: str
    kind: str
    value: JsonValue
    lowest: float | None = None
    highest: float | None = None
    choices: tuple[str, ...] = ()


def redo_form(made_with: dict[str, JsonValue], language: Language) -> list[FormField]:
    """The fields, filled with what a dub was made with, or with the defaults where it does not say."""
    described = DubSettings.model_json_schema()["properties"]
    return [_field(name, described[name], made_with.get(name, described[name].get("default")), language) for name in REDO_SETTINGS]


def _field(name: str, described: dict[str, Any], value: JsonValue, language: Language) -> FormField:
    label, meaning = setting_words(name, language)
    field = FormField(name=name, label=label, help=meaning or described.get("description", ""), kind="number", value=value)
    if name == "face":
        return _choice(field, (*FACE_WORDS, "0", "1", "2", "3"))
    if "enum" in described:
        return _choice(field, tuple(described["enum"]))
    kind = {"boolean": "switch", "integer": "whole"}.get(described["type"], "number")
    return field.model_copy(update={"kind": kind, "lowest": described.get("minimum"), "highest": described.get("maximum")})


def _choice(field: FormField, choices: tuple[str, ...]) -> FormField:
    """A field to choose in. What the dub was made with is offered even if it is none of the choices: a form that lacks it would change it."""
    value = f"{field.value:g}" if isinstance(field.value, int | float) else str(field.value)
    return field.model_copy(update={"kind": "choice", "value": value, "choices": tuple(dict.fromkeys((*choices, value)))})
