"""One table of codes, made of the classes, and no two errors alike."""

import inspect
import pickle

import pytest

from lg_streaming import errors
from lg_streaming.errors import (
    CODES,
    ForbiddenError,
    LogUnavailableError,
    StreamingConfigError,
    StreamingError,
    describe_error,
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
