"""`lg-streaming cancel` and `lg-streaming respond`."""

import json
from typing import Any

import pytest

from lg_streaming.client import SyncClient
from tests.cli.site import ALICE, BOB, PATIENCE, cli, start
from tests.gateway.starts import StartSite, bearer


def end_of(place: StartSite, execution_id: str) -> tuple[str, Any]:
    """The last update of the run, once it has ended."""
    with SyncClient(place.url, token=ALICE) as client, client.subscribe(execution_id, timeout=PATIENCE) as updates:
        last = list(updates)[-1]
    return last.type, last.data


def test_a_run_is_cancelled_with_a_reason(place: StartSite) -> None:
    execution_id = start(place, "endless", until="node_start")
    done = cli("cancel", place.url, execution_id, "--reason", "no longer needed")
    assert (done.code, done.out) == (0, f"Cancelled {execution_id}.\n")
    assert end_of(place, execution_id) == ("workflow_cancelled", {"reason": "no longer needed"})
    again = cli("cancel", f"{place.url}/watch/{execution_id}")
    assert (again.code, again.out) == (1, "")
    assert again.err == f"No run of {execution_id} is open: the last one is cancelled.\n"


def test_a_reader_may_not_cancel(place: StartSite) -> None:
    execution_id = start(place, "endless", until="node_start")
    reader = bearer("bob", {"actions": ["read"], "executions": [execution_id]})
    done = cli("cancel", place.url, execution_id, token=reader)
    assert (done.code, done.out) == (6, "")
    assert execution_id in done.err
    assert cli("cancel", place.url, execution_id).code == 0


@pytest.mark.parametrize(("typed", "answer"), [("revise", "revise"), ("1", "publish"), ("PUBLISH", "publish")])
def test_a_choice_is_answered(place: StartSite, typed: str, answer: str) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    done = cli("respond", place.url, execution_id, typed)
    assert done.code == 0, done.err
    kind, data = end_of(place, execution_id)
    assert (kind, data["result"]["answer"]) == ("workflow_complete", answer)
    late = cli("respond", place.url, execution_id, typed)
    assert (late.code, late.err) == (1, f"Error: {execution_id}: no prompt is open\n")


def test_what_is_no_choice_leaves_the_prompt_open(place: StartSite) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    for typed in ("3", "burn"):
        done = cli("respond", place.url, execution_id, typed)
        assert (done.code, done.out) == (6, "")
        assert done.err == f"Error: {typed!r} is none of the choices: publish, revise\n"
    refused = cli("respond", place.url, execution_id, '"burn"', "--json")
    assert (refused.code, refused.out) == (6, "")
    assert "publish, revise" in refused.err
    assert cli("respond", place.url, execution_id, '"revise"', "--json").code == 0
    assert end_of(place, execution_id)[1]["result"]["answer"] == "revise"


def test_json_is_sent_unchanged(place: StartSite) -> None:
    execution_id = start(place, "ask", until="workflow_interrupted")
    assert cli("respond", place.url, execution_id, "{", "--json").code == 2
    assert cli("respond", place.url, execution_id, "-", "--json", stdin='{"ok": [1, null]}').code == 0
    assert end_of(place, execution_id)[1]["result"]["answer"] == {"ok": [1, None]}


def test_open_prompts_are_printed_as_json(place: StartSite) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    done = cli("respond", f"{place.url}/executions/{execution_id}", "--json")
    (prompt,) = [json.loads(line) for line in done.lines]
    assert (prompt["prompt"], prompt["choices"]) == ("Publish?", ["publish", "revise"])
    wrong = cli("respond", place.url, execution_id, "publish", "--prompt", "p0")
    assert (wrong.code, wrong.err) == (1, f"Error: {execution_id}: the prompt 'p0' is not open\n")
    named = cli("respond", f"{place.url}/watch/{execution_id}", "publish", "--prompt", prompt["prompt_id"])
    assert named.out == f"Answered {prompt['prompt_id']}.\n"


def test_a_person_is_asked(place: StartSite) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    nobody = cli("respond", place.url, execution_id)
    assert (nobody.code, nobody.lines[0]) == (3, "Publish?  1 publish  2 revise")
    done = cli("respond", place.url, execution_id, stdin="burn\n2\n")
    assert done.code == 0
    assert "type a number from 1 to 2" in done.out
    assert end_of(place, execution_id)[1]["result"]["answer"] == "revise"


def test_of_several_prompts_one_is_named(memory_place: StartSite) -> None:
    hub = memory_place.streaming.hub
    hub.open("alice/two", owner="alice")
    for name in ("p1", "p2"):
        hub.publish("alice/two", "human_prompt", {"prompt_id": name, "prompt": f"{name}\x1b[2J?", "type": "input"})
    done = cli("respond", memory_place.url, "alice/two", "yes")
    assert (done.code, done.err) == (2, "Error: 2 prompts are open: choose one with --prompt: p1, p2\n")
    assert cli("respond", memory_place.url, "alice/two", "yes", "--prompt", "p2").out == "Answered p2.\n"
    asked = cli("respond", memory_place.url, "alice/two", stdin="no\n")
    assert asked.lines[0] == "p1\\x1b[2J?"
    assert "\x1b" not in asked.out
    assert cli("cancel", memory_place.url, "alice/two").code == 0


def test_an_answer_of_another_caller_is_refused(place: StartSite) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    reader = bearer("bob", {"actions": ["read"], "executions": [execution_id]})
    assert cli("respond", place.url, execution_id, "publish", token=reader).code == 6
    assert cli("respond", place.url, execution_id, "publish", token=BOB).code == 6
    assert cli("cancel", place.url, execution_id).code == 0
