"""A client in another process: `python -m tests.bench.starter PORT [KIND]`. Each line of stdin starts a run over HTTP.

A line has the graph's name and the content coding of the event stream: `write identity`, `write gzip`. The server is
ours, or with the kind `langgraph` LangGraph's own development server, on a thread that was made before. With the kind
`socketio` a run is started and read on a Socket.IO connection that was made before.

It prints one line of JSON for each run, with the bytes and the tokens of the event stream. `first_s` and `all_s` are
the seconds from the request to the first token, and to the last byte.
"""

import http.client
import json
import re
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

from websockets.sync.client import connect

SIZES: Final = re.compile(rb'"batch_size":(\d+)')
JSON: Final = {"Content-Type": "application/json"}

Connection = http.client.HTTPConnection


def post(connection: Connection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer, as JSON."""
    connection.request("POST", path, json.dumps(body), JSON)
    return json.loads(connection.getresponse().read())


def start_ours(connection: Connection, graph: str, coding: str) -> None:
    """Start a run, and ask for its event stream."""
    answer = post(connection, "/executions", {"graph": graph, "input": {"topic": "t"}})
    connection.request("GET", answer["stream_url"], headers={"Accept-Encoding": coding})


def start_langgraph(connection: Connection, graph: str, coding: str, thread: str) -> None:
    """Start a run whose answer is its event stream."""
    body = json.dumps({"assistant_id": graph, "input": {"topic": "t"}, "stream_mode": ["messages-tuple"]})
    connection.request("POST", f"/threads/{thread}/runs/stream", body, {**JSON, "Accept-Encoding": coding})


def read(connection: Connection, begin: Callable[[], None], first_of: bytes) -> dict[str, Any]:
    """Start a run, and read it to its end; `first_of` is in each frame with text."""
    began = time.perf_counter()
    begin()
    response = connection.getresponse()
    packed = response.getheader("Content-Encoding") == "gzip"
    unpack = zlib.decompressobj(wbits=31).decompress if packed else bytes
    parts, first, size = bytearray(), 0.0, 0
    while data := response.read1(262_144):
        size += len(data)
        parts += unpack(data)
        if not first and first_of in parts:
            first = time.perf_counter()
    ended = time.perf_counter()
    sizes = [int(each) for each in SIZES.findall(parts)]
    tokens = parts.count(first_of) + sum(sizes) - len(sizes)
    return {"first_s": first - began, "all_s": ended - began, "bytes": size, "tokens": tokens}


def start_on_socketio(port: int, graph: str) -> dict[str, Any]:
    """Start a run and read it to its end, with packets of Engine.IO 4 and Socket.IO 5."""
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    with connect(url, compression=None, max_size=None) as socket:
        socket.send("40")

        def next_packet(begin: str) -> str:
            while not (packet := str(socket.recv())).startswith(begin):
                pass
            return packet

        next_packet("40")
        began, first, size, parts = time.perf_counter(), 0.0, 0, list[str]()
        socket.send("420" + json.dumps(["start_execution", {"graph": graph, "input": {"topic": "t"}}]))
        answer = json.loads(next_packet("430").removeprefix("430"))[0]
        wanted = {"execution_id": answer["execution_id"], "after": answer["position"], "batch": True}
        socket.send("421" + json.dumps(["subscribe_execution", wanted]))
        while not parts or "workflow_complete" not in parts[-1]:
            parts.append(next_packet("42"))
            if not first and '"type":"token"' in parts[-1]:
                first = time.perf_counter()
        ended, text = time.perf_counter(), "".join(parts)
    sizes = [int(each) for each in SIZES.findall(text.encode())]
    size, tokens = len(text.encode()), text.count('"type":"token"') + sum(sizes) - len(sizes)
    return {"first_s": first - began, "all_s": ended - began, "bytes": size, "tokens": tokens}


def start(port: int, kind: str, graph: str, coding: str) -> dict[str, Any]:
    """Start a run, and read it to its end; `coding` is the content coding of its stream."""
    if kind == "socketio":
        return start_on_socketio(port, graph)
    connection = Connection("127.0.0.1", port)
    try:
        if kind == "langgraph":
            thread = post(connection, "/threads", {})["thread_id"]
            return read(connection, lambda: start_langgraph(connection, graph, coding, thread), b'[{"content":"word')
        return read(connection, lambda: start_ours(connection, graph, coding), b'"type":"token"')
    finally:
        connection.close()


def main() -> None:
    """Start a run for each line."""
    port, kind = int(sys.argv[1]), (*sys.argv[2:], "ours")[0]
    for line in sys.stdin:
        print(json.dumps(start(port, kind, *line.split())), flush=True)


if __name__ == "__main__":
    main()
