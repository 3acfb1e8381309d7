"""Calls of models that are not made to stream."""

from typing import Any, cast

import pytest
from langchain_core.tracers._streaming import _StreamingCallbackHandler  # pyright: ignore[reportPrivateUsage]

from lg_streaming.capture.callbacks import TAP
from lg_streaming.capture.model_call import must_not_stream, whole_call_var

WHOLE: list[dict[str, Any]] = [
    {"n": 2},
    {"candidate_count": 3},
    {"num_generations": 2},
    {"model_kwargs": {"n": 2}},
    {"extra_body": {"n": 4}},
    {"generation_config": {"candidate_count": 2}},
    {"modalities": ["text", "audio"]},
]
STREAMED: list[dict[str, Any]] = [{}, {"n": 1}, {"n": None}, {"model_kwargs": {"n": 1}}, {"modalities": ["text"]}]


@pytest.mark.parametrize("params", WHOLE, ids=str)
def test_a_call_whose_stream_would_be_another_answer(params: dict[str, Any]) -> None:
    assert must_not_stream(None, params)


@pytest.mark.parametrize("params", STREAMED, ids=str)
def test_other_calls_stream(params: dict[str, Any]) -> None:
    assert not must_not_stream({"kwargs": {}}, params)


def test_a_model_that_does_not_report_its_parameters() -> None:
    assert must_not_stream({"kwargs": {"n": 2}}, {})
    assert not must_not_stream({"kwargs": {"n": 2}}, {"n": 1}), "what is given with the call counts"


def test_langchain_takes_the_tap_for_a_streaming_handler_except_then() -> None:
    """The structural test of langchain-core on which making models stream relies."""
    token = whole_call_var.set(False)
    try:
        assert isinstance(TAP, _StreamingCallbackHandler)
        assert list(cast("Any", TAP).tap_output_iter(None, iter("ab"))) == ["a", "b"]
        whole_call_var.set(True)
        assert not isinstance(TAP, _StreamingCallbackHandler)
    finally:
        whole_call_var.reset(token)
