"""A client in another process: `python -m tests.bench.starter PORT`. For each line of stdin it starts a run over HTTP.

The line is the content coding of the event stream: `identity` or `gzip`.

It prints one line of JSON for each run, with the bytes of the event stream and its tokens. The line also has the
seconds from the request to the first token, and to the last byte.
"""

import http.client
import json
import re
import sys
import time
import zlib
from typing import Any, Final

FIRST: Final = b'"type":"token"'
SIZES: Final = re.compile(rb'"batch_size":(\d+)')


def start(port: int, coding: str) -> dict[str, Any]:
    """Start a run, and read it to its end; `coding` is the content coding of its stream."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps({"graph": "write", "input": {"topic": "t"}})
    connection.request("POST", "/executions", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.request("GET", answer["stream_url"], headers={"Accept-Encoding": coding})
    response = connection.getresponse()
    unpack = zlib.decompressobj(wbits=31).decompress if coding == "gzip" else bytes
    parts, first, size = bytearray(), 0.0, 0
    while data := response.read1(262_144):
        size += len(data)
        parts += unpack(data)
        if not first and FIRST in parts:
            first = time.perf_counter()
    ended = time.perf_counter()
    connection.close()
    sizes = [int(each) for each in SIZES.findall(parts)]
    tokens = parts.count(FIRST) + sum(sizes) - len(sizes)
    return {"first_s": first - began, "all_s": ended - began, "bytes": size, "tokens": tokens}


def main() -> None:
    """Start a run for each line."""
    for line in sys.stdin:
        print(json.dumps(start(int(sys.argv[1]), line.strip())), flush=True)


if __name__ == "__main__":
    main()
