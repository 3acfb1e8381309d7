"""Addresses, tokens and certificates that a command may have."""

import threading
from pathlib import Path

import pytest
import trustme
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.cli.access import Access
from lg_streaming.cli.outcome import UsageError
from tests.cli.site import ALICE, BOB, cli, cli_site, running, start
from tests.gateway.starts import StartSite
from tests.support.server import serve


@pytest.mark.parametrize(
    ("address", "url", "execution_id", "token"),
    [
        ("http://h:8000", "http://h:8000", None, None),
        ("http://h:8000/", "http://h:8000/", None, None),
        ("https://h/streaming", "https://h/streaming", None, None),
        ("http://h/watch", "http://h", None, None),
        ("http://h/s/watch/?state=running", "http://h/s", None, None),
        ("http://h/watch/exec-1", "http://h", "exec-1", None),
        ("http://h/s/watch/acme%2Frun%201", None, None, None),
        ("http://h/s/watch/acme/watch/1", "http://h/s", "acme/watch/1", None),
        ("http://h/watch/exec-1#link=lgl_abc", "http://h", "exec-1", "lgl_abc"),
        ("http://h/executions/acme%2Frun-1", "http://h", "acme/run-1", None),
        ("http://h/executions/acme/run-1/stream?events=token", "http://h", "acme/run-1", None),
        ("http://h/executions", "http://h", None, None),
    ],
)
def test_an_address_may_be_of_a_page_or_an_execution(
    address: str, url: str | None, execution_id: str | None, token: str | None
) -> None:
    if url is None:
        with pytest.raises(UsageError, match="spaces"):
            Access.of(address)
        return
    access = Access.of(address)
    assert (access.url, access.execution_id, access.token) == (url, execution_id, token)


@pytest.mark.parametrize("address", ["h:8000", "ftp://h", "http://", "http://h:x", "", "exec-1", "http://h:0"])
@pytest.mark.parametrize("command", ["list", "watch", "tail", "respond", "cancel"])
def test_what_is_no_address_is_said_so(command: str, address: str) -> None:
    done = cli(command, address, *([] if command == "list" else ["exec-1"]))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1


def test_two_executions_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="give one of them"):
        Access.of("http://h/watch/exec-1", "exec-2")
    assert Access.of("http://h/watch/exec-1", "exec-1").execution_id == "exec-1"


@pytest.mark.parametrize("command", ["respond", "cancel"])
def test_a_command_that_needs_an_execution_asks_for_it(command: str) -> None:
    done = cli(command, "http://127.0.0.1:9")
    assert (done.code, done.err) == (2, "Error: no execution is given: pass its ID, or the address of its page\n")


def test_a_token_comes_from_a_file_that_is_read_again(memory_place: StartSite, tmp_path: Path) -> None:
    execution_id = start(memory_place, "shout")
    file = tmp_path / "token"
    file.write_text(f"{ALICE}\n")
    arguments = ["list", memory_place.url, "--json", "--token-file", str(file)]
    assert execution_id in cli(*arguments, token=BOB).out
    file.write_text(BOB)
    assert execution_id not in cli(*arguments, token=None).out
    assert execution_id in cli("list", memory_place.url, "--json", "--token-file", "-", token=None, stdin=ALICE).out
    assert execution_id in cli("list", memory_place.url, "--json", "--token", ALICE, token=BOB).out


def test_an_empty_file_has_no_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" \n")
    for name, stdin in ((str(file), ""), ("-", "\n")):
        done = cli("list", "http://127.0.0.1:9", "--token-file", name, token=None, stdin=stdin)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("Error: --token-file has no token")


@pytest.mark.parametrize("option", ["--token-file", "--ca"])
def test_a_file_that_cannot_be_read_is_named(option: str, tmp_path: Path) -> None:
    done = cli("list", "http://127.0.0.1:9", option, str(tmp_path / "missing"))
    assert done.code == 2
    assert "missing" in done.err


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    done = cli("list", "https://127.0.0.1:9", "--ca", str(file))
    assert done.code == 2
    assert "--ca" in done.err


@pytest.mark.parametrize("command", ["list", "watch", "tail", "respond", "cancel"])
def test_a_server_that_is_not_there_is_one_line(command: str) -> None:
    done = cli(command, "http://127.0.0.1:9", *([] if command == "list" else ["exec-1"]))
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("Error: the connection to http://127.0.0.1:9 failed")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["watch"], ["watch", "--follow"], ["tail"]])
def test_a_server_that_is_not_there_for_all_executions(arguments: list[str]) -> None:
    done = cli(arguments[0], "http://127.0.0.1:9", *arguments[1:])
    assert (done.code, done.out) == (5, "")
    assert "127.0.0.1:9" in done.err


@pytest.mark.parametrize("command", ["list", "watch", "tail", "respond", "cancel"])
def test_a_server_that_wants_a_token(memory_place: StartSite, command: str) -> None:
    done = cli(command, memory_place.url, *([] if command == "list" else ["alice/1"]), token=None)
    assert (done.code, done.out) == (6, "")
    assert done.err.endswith("pass --token-file FILE, or set LG_STREAMING_TOKEN\n")


@pytest.mark.parametrize("arguments", [["watch"], ["tail"]])
def test_a_server_that_wants_a_token_for_all_executions(memory_place: StartSite, arguments: list[str]) -> None:
    done = cli(*arguments, memory_place.url, token=None)
    assert (done.code, done.out) == (6, "")
    assert "LG_STREAMING_TOKEN" in done.err


@pytest.mark.parametrize("command", ["watch", "tail", "respond", "cancel"])
def test_an_execution_that_is_not_there_or_anothers(memory_place: StartSite, command: str) -> None:
    execution_id = start(memory_place, "shout")
    for name in ("alice/missing", execution_id):
        done = cli(command, memory_place.url, name, token=ALICE if name == "alice/missing" else BOB)
        assert (done.code, done.out) == (6, "")
        assert done.err == f"Error: {name}: there is no such execution, or it is not yours\n"


@pytest.mark.parametrize("prefix", ["/watched", "/streaming/here"])
def test_a_server_with_a_prefix(prefix: str) -> None:
    with cli_site(gateway={"prefix": prefix}) as site:
        execution_id = start_under(site, prefix)
        done = cli("watch", f"{site.url}{prefix}/watch/{execution_id}")
        assert done.code == 0
        done = cli("tail", f"{site.url}{prefix}", execution_id, "--events", "workflow_complete", "--json")
        assert len(done.lines) == 1


def start_under(site: StartSite, prefix: str) -> str:
    done = cli("start", "shout", "--url", f"{site.url}{prefix}", "--execution-id", "alice/under")
    assert done.code == 0
    return "alice/under"


def test_a_server_whose_certificate_no_authority_of_the_system_signed(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    streaming = StreamingModule({"auth": {"enabled": False}})
    app = FastAPI()
    streaming.install(app)
    with serve(app, ssl_certfile=tmp_path / "server.pem") as server:
        url = server.url.replace("http:", "https:")
        streaming.hub.publish("exec-1", "token", {"content": "hi"})
        assert "exec-1" in cli("list", url, "--ca", str(tmp_path / "ca.pem")).out
        for arguments in (["list", url], ["tail", url]):
            done = cli(*arguments)
            assert (done.code, done.out) == (5, "")
            assert "certificate" in done.err
        with running("tail", url, "--ca", str(tmp_path / "ca.pem")) as command:
            reader = threading.Thread(target=command.read_until, args=["exec-1  -  token"])
            reader.start()
            while reader.is_alive():
                streaming.hub.publish("exec-1", "token", {"content": "hi"})
                reader.join(0.05)
            assert command.interrupt() == 130
