"""Errors that SQL writes into a result (app.error_json) have the codes and messages of app/errors.py."""

import psycopg
import psycopg.sql
import pytest

from app.errors import ApiError, Conflict, Forbidden, Invalid, NotFound, from_database

RAISED = {"INVAL": Invalid, "CLASH": Conflict, "42501": Forbidden, "23505": Conflict, "22012": ApiError}
OF_STATE = RAISED | {"02000": NotFound}
"""02000 is a row that is missing or hidden, which no statement raises."""


@pytest.mark.parametrize("state", OF_STATE)
def test_an_error_has_the_code_and_message_of_its_class(as_root, state):
    ((error,),) = as_root.execute("select error_json(%s, '{}')", [state]).fetchall()
    message = "claimNumber: Is taken." if state == "23505" else OF_STATE[state].__doc__
    assert (error["code"], error["message"]) == (OF_STATE[state].code, message)
    assert set(error) == {"code", "message", "fields"}


@pytest.mark.parametrize("state", [*RAISED, "TRANS"])
def test_an_error_that_ends_a_request_has_the_same_code(as_root, state):
    with pytest.raises(psycopg.Error) as raised:
        as_root.execute(f"do $$ begin raise exception using errcode = '{state}', detail = '{{}}'; end $$")
    ((code,),) = as_root.execute("select error_json(%s, '{}') ->> 'code'", [state]).fetchall()
    assert from_database(raised.value).code == code


@pytest.mark.parametrize(("state", "detail", "message"), [
    ("CLASH", '{"notes": ["Can\'t be changed"]}', "notes: Can't be changed."),
    ("CLASH", '{"a": ["One"], "b": ["Two", "Three"]}', "a: One. b: Two."),
    ("TRANS", '{"from": "paid", "to": "draft", "allowed": []}', "A claim that is paid can't become draft."),
    ("TRANS", '{"from": "rejected", "to": "appealed", "allowed": [], "message": "Too late."}', "Too late."),
    ("42501", '{"message": "You decided this claim."}', "You decided this claim."),
])  # fmt: skip
def test_an_error_names_its_cause_in_both_languages(as_root, state, detail, message):
    with pytest.raises(psycopg.Error) as raised:
        as_root.execute(psycopg.sql.SQL(
            "do $$ begin raise exception using errcode = {}, detail = {}; end $$").format(state, detail))  # fmt: skip
    error = from_database(raised.value)
    assert (str(error), "message" in (error.details or {})) == (message, False)
    assert as_root.execute("select error_json(%s, %s) ->> 'message'", [state, detail]).fetchone() == (message,)


def test_a_detail_of_postgresql_is_not_shown(as_root):
    with pytest.raises(psycopg.Error) as raised:
        as_root.execute("do $$ begin raise exception using errcode = '42501', detail = 'Only roles with ...'; end $$")
    assert str(from_database(raised.value)) == Forbidden.__doc__
    ((message,),) = as_root.execute("select error_json('42501', 'Only roles') ->> 'message'").fetchall()
    assert message == Forbidden.__doc__


def test_an_illegal_transition_names_both_statuses(as_root):
    message = "select error_json('TRANS', %s) ->> 'message'"
    ((moved,), (created,)) = (
        as_root.execute(message, [detail]).fetchone()
        for detail in ('{"from": "paid", "to": "draft"}', '{"from": null, "to": "paid"}')
    )
    assert (moved, created) == ("A claim that is paid can't become draft.", "A claim that is new can't become paid.")
