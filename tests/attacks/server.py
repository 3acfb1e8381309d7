"""The server under attack."""

import asyncio
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from tests.attacks.attack import SECRET, Target

ROOT = Path(__file__).resolve().parents[2]
_START = """
import os, resource, runpy, sys
if number := os.environ.get("ATTACK_DESCRIPTORS"):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(number), int(number)))
if os.environ.get("ATTACK_LOOP") == "asyncio":
    sys.modules["uvloop"] = None
sys.argv[0] = "lg_streaming"
runpy.run_module("lg_streaming", run_name="__main__")
"""


@asynccontextmanager
async def target(
    options: tuple[str, ...] = (), env: tuple[tuple[str, str], ...] = (), *, secure: bool = False
) -> AsyncGenerator[Target]:
    """Serve `tests.attacks.app` in another process until the block ends; `secure` uses TLS.

    In `env`, ATTACK_DESCRIPTORS limits the descriptors of the process, and ATTACK_LOOP=asyncio has it use the event
    loop of the standard library.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LG_STREAMING_")}
    with tempfile.TemporaryDirectory() as folder:
        log, tls = Path(folder) / "log", None
        if secure:
            options = (*options, f"--certfile={folder}/chain.pem", f"--keyfile={folder}/key.pem")
            tls = _make_certificate(Path(folder))
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _START, "serve", "tests.attacks.app:app", "--port=0", "--grace=3", *options),
                cwd=ROOT,
                env={**kept, "PYTHONPATH": str(ROOT), "LG_STREAMING_AUTH__SECRET": SECRET, **dict(env)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                line = (await process.stdout.readline()).decode()
            assert line.startswith("Serving "), log.read_text()
            port = int(line.split()[1].rpartition(":")[2])
            yield Target(host="127.0.0.1", port=port, pid=process.pid, log=log, tls=tls)
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(10):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()


def _make_certificate(folder: Path) -> ssl.SSLContext:
    """Write a certificate and its key; return what a client trusts."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    (folder / "chain.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
