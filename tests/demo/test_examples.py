"""The examples work as documented."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import httpx2
import pytest

from tests.support import warm
from tests.support.server import serve

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOWN = {
    "01_in_process.py",
    "02_fastapi_server.py",
    "03_progress.py",
    "04_tokens.py",
    "05_progress.py",
    "06_events.py",
    "07_flowise.py",
    "08_emitters.py",
    "09_activity.py",
    "10_sinks.py",
    "11_client.py",
    "13_runs.py",
    "14_human.py",
    "15_start_over_http.py",
}


def run(name: str, *arguments: str, fresh: bool = False) -> str:
    done = warm.run(str(EXAMPLES / name), *arguments, fresh=fresh)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name[:2]}", EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SHOWN


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 60


def test_in_process() -> None:
    assert run("01_in_process.py", fresh=True).splitlines() == [
        "[workflow_start]",
        "[status]",
        "[node_start]",
        "Rain is water that falls from clouds in drops.[node_complete]",
        "[workflow_complete]",
        "Rain is water that falls from clouds in drops.",
    ]


def test_fastapi_server() -> None:
    with serve(load("02_fastapi_server.py").app) as server:
        execution_id = httpx2.post(f"{server.url}/ask", params={"question": "What is rain?"}).json()["execution_id"]
        stream = httpx2.get(f"{server.url}/executions/{execution_id}/stream", timeout=30).text
        assert httpx2.get(f"{server.url}/watch/{execution_id}").status_code == 200
    updates = [json.loads(data) for data in re.findall(r"^data: (.+)$", stream, re.MULTILINE)]
    told = [update["data"]["content"] for update in updates if update.get("type") == "token"]
    assert "".join(told) == "Rain is water that falls from clouds in drops."
    assert "event: workflow_complete" in stream


def test_progress() -> None:
    lines = run("03_progress.py").splitlines()
    assert lines[0].split() == ["read:", "0.0", "%"]
    assert [line.split()[1] for line in lines[1:11]] == [f"{percent}.0" for percent in range(10, 101, 10)]
    assert re.fullmatch(r"read:  50\.0 % 0\.[4-9] s left", lines[5])


def test_progress_in_parts() -> None:
    lines = run("05_progress.py").splitlines()
    assert lines[0].split() == ["0", "%", "started"]
    assert [line for line in lines if line.startswith("--")] == ["-- 50 % reached --", "-- 90 % reached --"]
    assert lines[-1].split() == ["100", "%", "completed"]
    assert any(line.endswith("running fetching") for line in lines)
    assert any(line.endswith("running checking the count") for line in lines)


def test_tokens() -> None:
    *updates, result = run("04_tokens.py").splitlines()
    told = [line.split(maxsplit=3) for line in updates]
    assert "".join(line[8:] for line in updates) == "Call ***-**** or come by: we are open until six in the evening "
    assert told[0] == ["0", "1", "1", "Call "]
    assert all(int(index) + int(size) == int(total) for index, size, total, _ in told)
    assert max(int(size) for _, size, _, _ in told) > 1
    assert result.endswith("Call 555-0199 or come by: we are open until six in the evening . ")


def test_events() -> None:
    start, values, charged, end = run("06_events.py").splitlines()
    assert start == "node_start: {'node_id': 'pay', 'node_name': 'pay', 'attempt': 1}"
    assert values == "values: {'customer': 'Ada', 'card': '****', 'paid': False}"
    assert charged == "charged: {'customer': 'Ada', 'card': '****'}"
    assert end == "node_complete: {'update': {'paid': True}}"


def test_flowise() -> None:
    """With Flowise's own clients in tests/gateway/test_flowise_clients.py."""
    asked = {"question": "What is rain?", "streaming": "true", "overrideConfig": {"sessionId": "s1"}}
    with serve(load("07_flowise.py").app) as server:
        stream = httpx2.post(f"{server.url}/api/v1/prediction/write", json=asked, timeout=30).text
    told = [json.loads(data) for data in re.findall(r"^data:(.+)$", stream, re.MULTILINE)]
    tokens = [frame["data"] for frame in told if frame["event"] == "token"]
    assert "".join(tokens) == "Rain is water that falls from clouds.Sent."
    metadata, end = told[-2:]
    assert (metadata["data"]["chatId"], metadata["data"]["sessionId"]) == ("s1", "s1")
    assert end == {"event": "end", "data": "[DONE]"}


def test_emitters() -> None:
    lines = run("08_emitters.py").splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("The")] == [
        *["workflow_start", "node_start", "tool_start", "tool_start", "tool_start"],
        *["tool_complete", "tool_error", "tool_complete", "node_complete"],
        *["llm_start", "usage", "llm_complete"],
        *["human_prompt", "human_response", "status", "workflow_complete"],
    ]
    assert "The paper shop is cheapest." in lines
    told = {line.split()[0]: line for line in lines}
    assert "'art-shop'" in told["tool_error"]
    assert re.search(r"'duration_s': \d+\.\d+.*'price': 8\.2", told["tool_complete"])  # the slowest call came last
    assert "'cost': 0.0002" in told["usage"]
    assert "'ordered'" in told["status"]


def test_activity() -> None:
    lines = run("09_activity.py").splitlines()
    assert [line.strip() for line in lines if line.startswith("  stdout")] == [
        f"stdout | test {number} passed" for number in range(1, 5)
    ]
    assert "  stderr | 1 warning: low on disk" in lines
    assert "All four tests pass." in lines
    steps = [line.split()[0] for line in lines if line.startswith(("task:", "agent:"))]
    assert [step for step in steps if step.startswith("task:")] == [
        *["task:created", "task:started", "task:progress", "task:progress", "task:completed"],
    ]
    assert steps[0] == "agent:spawned"
    assert steps[-1] == "agent:stopped"
    assert any(line.startswith("usage") and "'cost': 0.0009" in line for line in lines)
    assert any(line.startswith("agent:log:info") and "the tests ended with 0" in line for line in lines)


def test_sinks() -> None:
    lines = run("10_sinks.py").splitlines()
    logged = [line for line in lines if line.startswith("log: exec-1")]
    count = len(logged)
    assert [line.split()[2] for line in logged] == [f"#{number}" for number in range(1, count + 1)]
    posts = [line for line in lines if line.startswith("webhook: ")]
    assert posts[0].endswith("answered with 503")
    assert posts[1] == posts[0].replace("503", "204")  # the same updates once more
    taken = 0
    for post in posts[1:]:
        told = re.fullmatch(r"webhook: (\d+) up to [^ ]+:(\d+); answered with 204", post)
        assert told is not None
        taken += int(told[1])
        assert taken == int(told[2])
    assert taken == count
    delivered = ast.literal_eval(lines[-2])
    assert delivered == {
        "file": f"{count} updates, 0 attempts failed",
        "log": f"{count} updates, 0 attempts failed",
        "webhook": f"{count} updates, 1 attempts failed",
    }
    last = json.loads(lines[-1].removeprefix("the file's last line: "))
    assert (last["type"], last["metadata"]["sequence_number"]) == ("workflow_complete", count)


def test_client() -> None:
    with serve(load("02_fastapi_server.py").app) as server:
        first, second, third = run("11_client.py", server.url).splitlines()
    beginning = first.removeprefix("Server-Sent Events: ")
    rest = re.fullmatch(
        r"Socket\.IO, after [^ ]+:\d+: (.+?)\[llm_complete\]\[node_complete\]\[workflow_complete\]", second
    )
    assert rest is not None
    assert len(beginning) > 20
    assert beginning + rest[1] == "Rain is water that falls from clouds in drops."
    assert third == "all of it: Rain is water that falls from clouds in drops."


@pytest.mark.row("HIVE-77", "HIVE-81")
def test_runs() -> None:
    *progress, report, stopped, end, status = run("13_runs.py").splitlines()
    percents = [float(line.split("%")[0]) for line in progress]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert {line.split("%")[1].strip() for line in progress} == {"search", "write", ""}
    assert report == "Rain is water that falls from clouds in drops."
    assert stopped.endswith(" … that is enough")
    assert end == "workflow_cancelled {'reason': 'the reader has seen enough'}"
    assert status == "cancelled: the reader has seen enough"


def test_a_human_decides_about_a_tool() -> None:
    assert run("14_human.py").splitlines() == [
        "asked: refund {'customer': 'Ada', 'amount': 120}",
        "answered by ann",
        "tool: Ada got 20 back",
        "Ada has the money.",
    ]


def test_a_start_over_http() -> None:
    done = warm.run(str(EXAMPLES / "15_start_over_http.py"))
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["authentication is not set up"]
    assert done.stdout.splitlines() == [
        "graphs: ['order']",
        "Which color of pencils? ['red', 'blue']",
        "workflow_complete {'item': 'pencils', 'color': 'blue'}",
    ]
