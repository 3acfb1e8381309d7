"""One table of codes, made of the classes, and no two errors alike."""

import asyncio
import inspect
import pickle
from typing import Any

import pytest

from lg_streaming import errors
from lg_streaming.errors import (
    CODES,
    ForbiddenError,
    LogUnavailableError,
    StreamingConfigError,
    StreamingError,
    describe_error,
    leaf_errors,
)

CLASSES = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, StreamingError)]
SPECIAL_CASES = [each for each in CLASSES if "name" not in vars(each)]
WIRE = [each for each in CLASSES if "code" in vars(each) and each is not StreamingError]


def test_names_and_numbers_are_unique() -> None:
    assert len({each.name for each in CLASSES}) == len(CLASSES) - len(SPECIAL_CASES)
    assert all("code" not in vars(each) for each in SPECIAL_CASES)
    assert len({each.code for each in WIRE}) == len(WIRE)


def test_the_table_holds_every_error_that_travels() -> None:
    assert {number: code.name for number, code in CODES.items()} == {each.code: each.name for each in WIRE}
    assert list(CODES) == sorted(CODES)


@pytest.mark.parametrize("number", CODES)
def test_a_row_of_the_table_is_sensible(number: int) -> None:
    code = CODES[number]
    assert code.number == number
    assert 4000 <= number < 6000
    assert code.closes in {"yes", "no", "third"}
    assert code.meaning
    assert code.http_status == 200 or 400 <= code.http_status < 600
    if code.http_status in {429, 503} and code.name not in {"too_many_subscriptions", "hub_closed"}:
        assert code.retryable


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_every_error_is_told_the_same_way(error: type[StreamingError]) -> None:
    bare = error().to_dict()
    assert bare == {
        "code": error.code,
        "name": error.name,
        "message": error.meaning,
        "retryable": error.retryable,
    }
    full = error("why", execution_id="e", retry_after=1.5)
    assert full.to_dict() == bare | {"message": "why", "execution_id": "e", "retry_after_ms": 1500}
    assert str(full) == "why"


def test_every_error_is_exported_and_in_the_tree() -> None:
    assert {each.__name__ for each in CLASSES} <= set(errors.__all__)
    assert errors.__doc__ is not None
    for each in CLASSES:
        assert each.__name__ in errors.__doc__


def test_configuration_errors_do_not_travel() -> None:
    assert not [each for each in WIRE if issubclass(each, StreamingConfigError)]


def test_an_error_keeps_what_it_knows_when_it_is_copied() -> None:
    copied = pickle.loads(pickle.dumps(LogUnavailableError("why", execution_id="e", retry_after=2.0)))
    assert copied.to_dict() == LogUnavailableError("why", execution_id="e", retry_after=2.0).to_dict()


@pytest.mark.row("FLOW-D8")
def test_an_error_of_somebody_else_is_described_without_its_stack() -> None:
    with pytest.raises(ValueError, match="no") as caught:
        raise ValueError("no")
    assert describe_error(caught.value) == {"message": "no", "type": "ValueError"}
    assert "test_errors.py" in describe_error(caught.value, debug=True)["stack"]
    assert describe_error("no") == {"message": "no"}
    assert describe_error(KeyError()) == {"message": "KeyError", "type": "KeyError"}


def test_forbidden_does_not_say_whether_it_exists() -> None:
    assert "no such execution, or it is not yours" in ForbiddenError.meaning


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001 (it is what was raised)
        return caught


def test_a_group_names_what_failed_in_it() -> None:
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ConnectionError("the server answered 401")])
    assert describe_error(group) == {
        "message": "unhandled errors in a TaskGroup (1 sub-exception): ConnectionError: the server answered 401",
        "type": "ExceptionGroup",
        "errors": [{"message": "the server answered 401", "type": "ConnectionError"}],
    }


def test_nested_groups_are_one_list_of_at_most_ten() -> None:
    inner = BaseExceptionGroup("inner", [ValueError(f"v{n}") for n in range(3)])
    group = BaseExceptionGroup("outer", [KeyError("k"), inner, *(OSError(str(n)) for n in range(2_000))])
    described = describe_error(group)
    assert [each["message"] for each in described["errors"]] == ["'k'", "v0", "v1", "v2", *"012345"]
    assert "causes" not in described
    assert described["message"].startswith("outer (2002 sub-exceptions): KeyError: 'k'")
    assert len(leaf_errors(group)) == 1_000
    deep: Any = ValueError("at the bottom")
    for _ in range(500):
        deep = BaseExceptionGroup("level", [deep])
    assert [str(leaf) for leaf in leaf_errors(deep)] == ["at the bottom"]
    assert describe_error(deep)["errors"] == [{"message": "at the bottom", "type": "ValueError"}]


def test_a_wrapper_names_what_it_was_raised_from() -> None:
    refused = raised(ConnectionError("401"), raised(OSError("the socket")))
    described = describe_error(raised(RuntimeError("the tool failed"), refused))
    assert (described["message"], described["type"]) == ("the tool failed", "RuntimeError")
    assert [cause["message"] for cause in described["causes"]] == ["401", "the socket"]
    of_a_group = describe_error(raised(RuntimeError("x"), ExceptionGroup("g", [ValueError("a"), ValueError("b")])))
    assert [cause["message"] for cause in of_a_group["causes"]] == ["a", "b"]
    both = describe_error(raised(ExceptionGroup("g", [ValueError("a")]), OSError("the socket")))
    assert [each["message"] for each in both["errors"]] == ["a"]
    assert [cause["message"] for cause in both["causes"]] == ["the socket"]


def test_what_an_error_was_not_raised_from_is_no_cause() -> None:
    error = RuntimeError("second")
    error.__context__ = ValueError("first")
    assert "causes" not in describe_error(error)


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert [cause["message"] for cause in describe_error(first)["causes"]] == ["b"]


def test_the_code_of_the_only_error_is_that_of_its_group() -> None:
    class CodedError(Exception):
        code = 429

    assert describe_error(ExceptionGroup("g", [CodedError("slow down")]))["code"] == 429
    assert "code" not in describe_error(ExceptionGroup("g", [CodedError("slow down"), ValueError("x")]))


def test_what_cannot_be_shown_in_a_group_is_named() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    described = describe_error(ExceptionGroup("g", [MuteError(), ValueError("x" * 20_000)]), debug=True)
    assert described["errors"][0] == {"message": "MuteError", "type": "MuteError"}
    assert len(described["errors"][1]["message"]) == 8_000
    assert described["stack"]


def test_a_group_of_cancellations_is_one() -> None:
    group = BaseExceptionGroup("g", [asyncio.CancelledError(), BaseExceptionGroup("h", [KeyboardInterrupt()])])
    assert all(isinstance(leaf, (asyncio.CancelledError, KeyboardInterrupt)) for leaf in leaf_errors(group))
    assert leaf_errors(asyncio.CancelledError("x"))[0].args == ("x",)
