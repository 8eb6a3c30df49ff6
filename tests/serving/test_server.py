"""The server listens to this machine alone, and says what it needs."""

from clinical.cli import app
from clinical.errors import ConfigError
from clinical.serving import Limits, check_host

import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from typer.testing import CliRunner


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_address_that_others_reach_is_refused_unless_it_is_asked_for(host):
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        check_host(host, allow_remote=False)
    check_host(host, allow_remote=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_is_always_allowed(host):
    check_host(host, allow_remote=False)


@pytest.mark.parametrize("name", ["megabytes", "patients", "events", "at_once", "seconds"])
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
