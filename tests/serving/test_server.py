"""The server listens to this machine alone, and says what it needs."""

from clinical.cli import app
from clinical.errors import ConfigError
from clinical.serving import Limits, check_host, serve, server
from clinical.serving import app as app_module

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_address_that_others_reach_is_refused_unless_it_is_asked_for(host):
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        check_host(host, allow_remote=False)
    check_host(host, allow_remote=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_is_always_allowed(host):
    check_host(host, allow_remote=False)


@pytest.mark.parametrize("name", ["megabytes", "events", "at_once", "seconds", "body_seconds"])
def test_a_limit_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name}: is 0; give more than 0"):
        Limits(**{name: 0})


def test_the_command_refuses_a_host_before_it_opens_a_bundle(tmp_path):
    arguments = ["serve", str(tmp_path / "no-bundle"), "--host", "0.0.0.0"]
    with pytest.raises(ConfigError, match="say --allow-remote"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_what_is_missing_is_named_with_what_installs_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("clinical.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'clinical\[serve\]'"):
        CliRunner().invoke(app, ["serve", str(tmp_path)], catch_exceptions=False)


def test_the_command_serves_until_it_is_interrupted(finished):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clinical.cli", "serve", str(finished.bundle)]
    with subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE) as server:
        try:
            health = None
            for _ in range(600):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as response:
                        health = json.load(response)
                    break
                except OSError:
                    assert server.poll() is None, server.stderr.read()
                    time.sleep(0.1)
            assert health["status"] == "ok"
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def running(bundle: Any, monkeypatch: pytest.MonkeyPatch, limits: Limits) -> Iterator[int]:
    """The port of a server in this process, run as `serve` runs it."""
    begun: list[uvicorn.Server] = []

    def run(app: Any, **options: Any) -> None:
        begun.append(uvicorn.Server(uvicorn.Config(app, **options)))
        begun[0].run()

    monkeypatch.setattr(server.uvicorn, "run", run)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    thread = threading.Thread(target=serve, args=(bundle,), kwargs={"port": port, "limits": limits})
    thread.start()
    try:
        eventually(lambda: bool(begun) and begun[0].started)
        yield port
    finally:
        begun[0].should_exit = True
        thread.join(30)


def is_ended(connection: socket.socket) -> bool:
    """Whether one more byte finds nobody, whichever way the system says so."""
    try:
        connection.sendall(b"G")
    except OSError:
        return True
    return False


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("never came true")


def health(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as response:
        return json.load(response)


def post(port: int, body: bytes = b"{}") -> int:
    """The status that a body gets."""
    url, headers = f"http://127.0.0.1:{port}/score", {"content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as got:
            return got.status
    except urllib.error.HTTPError as refused:
        return refused.code


HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_connections_that_ask_nothing_shut_nobody_out_and_are_ended(finished, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with running(finished.bundle, monkeypatch, Limits()) as port:
        silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(30)]
        assert health(port)["status"] == "ok"
        assert [each.recv(1) for each in silent] == [b""] * 30
        # A byte now and then, also after a first request, holds no connection either.
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert slow.recv(10_000).startswith(b"HTTP/1.1 200")
            eventually(lambda: is_ended(slow))
        for each in silent:
            each.close()


def test_a_request_has_its_place_before_its_body_which_must_come_in_time(finished, monkeypatch):
    limits = Limits(at_once=1, waiting=0, body_seconds=1.0)
    with (
        running(finished.bundle, monkeypatch, limits) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as late,
    ):
        late.sendall(HEAD + b"Content-Length: 2\r\n\r\n{")
        eventually(lambda: health(port)["status"] == "busy")
        assert post(port) == 503
        answer = late.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408")
        eventually(lambda: health(port)["status"] == "ok")
        assert post(port) == 422
        # One that goes away leaves its place.
        with socket.create_connection(("127.0.0.1", port), timeout=30) as gone:
            gone.sendall(HEAD + b"Content-Length: 2\r\n\r\n{")
            eventually(lambda: health(port)["status"] == "busy")
        eventually(lambda: health(port)["status"] == "ok")


def test_health_answers_while_a_body_is_read(finished, monkeypatch):
    go_on, begun = threading.Event(), threading.Event()

    def slow(body, limits):
        begun.set()
        assert go_on.wait(30)
        raise ValueError

    monkeypatch.setattr(app_module, "read_request", slow)
    with running(finished.bundle, monkeypatch, Limits()) as port:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(post(port)))
        thread.start()
        assert begun.wait(30)
        assert health(port)["running"] == 1
        go_on.set()
        thread.join(30)
    assert found == [500]
