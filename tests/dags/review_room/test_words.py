"""What the pages say: both languages whole, and the one that somebody wants."""

import re
from string import Formatter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dags.review_room import words
from dags.review_room.pages import FOLDER
from dags.review_room.redo_form import redo_form
from dags.review_room.words import LANGUAGES, metric_meaning, preferred
from schemas.review import REDO_SETTINGS, check_redo
from schemas.settings import DubMetricName, MetricName

SOURCES = "".join(file.read_text() for file in [*(FOLDER / "static").glob("*.js"), *(FOLDER / "templates").glob("*.j2"), FOLDER / "app.py"])


@pytest.mark.parametrize("name", words.PAGE)
def test_both_languages_say_it_with_the_same_values(name: str) -> None:
    english, chinese = words.PAGE[name]
    assert english
    assert chinese
    fields = [{field for _, field, _, _ in Formatter().parse(said) if field} for said in (english, chinese)]
    assert fields[0] == fields[1]


def test_what_pages_and_scripts_say_is_there_and_the_other_way_round() -> None:
    used = {name for pair in re.findall(r"""\bwords\.(\w+)|\bsay\("(\w+)\"""", SOURCES) for name in pair if name}
    assert used <= set(words.PAGE)
    made = ("gate_passed", "gate_held", "said_approve", "said_reject", "said_redo")  # of parts
    named = used | set(re.findall(r"""["'](\w+)["']""", SOURCES)) | set(made)
    assert set(words.PAGE) <= named


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB,zh;q=0.9", "en"), ("de,fr;q=0.9", "en"), ("de, zh;q=0.1", "zh"), ("zh;q=0, en;q=0.1", "en")],
)
def test_the_browsers_language_is_taken(header: str, language: str) -> None:
    assert preferred(header) == language


@given(st.text(max_size=80))
def test_any_header_gives_a_language(header: str) -> None:
    assert preferred(header) in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_form_shows_every_setting_of_a_redo_with_what_it_was(language: words.Language) -> None:
    fields = redo_form({"references": 5, "hold_to_head": False}, language)
    assert [field.name for field in fields] == list(REDO_SETTINGS)
    values = {field.name: field.value for field in fields}
    assert (values["references"], values["hold_to_head"], values["crf"]) == (5, False, 16)
    assert all(field.label and field.help for field in fields)
    assert check_redo(values, {}) == values
    (references,) = (field for field in fields if field.name == "references")
    assert (references.kind, references.lowest, references.highest) == ("whole", 1, 100)


@pytest.mark.parametrize(("name", "made_with"), [("face", "/pictures/anna.png"), ("face", "5"), ("smoothing", "kalman")])
def test_a_form_offers_what_a_dub_was_made_with_though_it_is_no_usual_choice(name: str, made_with: str) -> None:
    (field,) = (field for field in redo_form({name: made_with}, "en") if field.name == name)
    assert (field.value, field.choices[-1]) == (made_with, made_with)
    assert len(field.choices) == len(set(field.choices)) > 2


def test_a_choice_is_the_same_whether_it_is_written_as_a_number_or_as_text() -> None:
    fields = {field.name: field for field in redo_form({"face": 1, "fps": 25}, "en")}
    assert (fields["face"].value, fields["fps"].value, fields["fps"].choices) == ("1", "25", ("source", "25"))
    assert fields["face"].choices.count("1") == 1


def test_every_metric_of_a_dub_is_known_by_its_name_in_both_languages() -> None:
    for name in {*get_args(DubMetricName), *get_args(MetricName)}:
        assert metric_meaning(name, "en")
        assert re.search(r"[\u4e00-\u9fff]", metric_meaning(name, "zh")), name
