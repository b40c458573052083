"""Starting the page: on loopback only, unless there is a login; what cannot be served is said before it is tried."""

import re
import socket
import time
from contextlib import ExitStack

import pytest
from gradio.queueing import Queue

from t2v.errors import CheckpointError, SettingsError
from t2v.page import serve_page
from t2v.page.launch import LINE_EVERY_S


def serving(**options):
    with ExitStack() as pages:
        pages.enter_context(serve_page(**options))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::"])
def test_other_machines_are_let_in_only_with_a_login(host):
    with pytest.raises(SettingsError, match=r"set a login with --auth user:password, or use 127\.0\.0\.1"):
        serving(host=host)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.7", "..", "a" * 70])
def test_a_host_that_is_not_this_machine_is_named(host, monkeypatch):
    def look_up(name, port, **options):
        name.encode("idna")
        if name != "192.0.2.7":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (name, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(
        SettingsError, match=rf"cannot be served at {re.escape(host)}: .*; --host takes an address of this machine"
    ):
        serving(host=host, auth="anna:secret")


def test_the_page_is_served_at_loopback_of_ipv6_too():
    with serve_page(host="::1") as address:
        assert address.startswith("http://[::1]:")
        with socket.create_connection(("::1", int(address.rstrip("/").rpartition(":")[2]))):
            pass


@pytest.mark.parametrize("auth", ["anna", ":secret", "anna:", ""])
def test_a_login_has_two_parts(auth):
    with pytest.raises(SettingsError, match="--auth takes user:password"):
        serving(auth=auth)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none\.safetensors"):
        serving(checkpoint=tmp_path / "none.safetensors")


def test_a_port_that_is_taken_is_named(make_checkpoint):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot be served at port {port}"):
            serving(port=port, checkpoint=make_checkpoint())


def test_an_idle_page_seldom_looks_for_requests_that_wait(serve, until, monkeypatch):
    looks, length = [], Queue.__len__
    monkeypatch.setattr(Queue, "__len__", lambda queue: looks.append(time.perf_counter()) or length(queue))
    serve()
    until(lambda: len(looks) > 20)
    assert len(looks) <= (time.perf_counter() - looks[0]) / LINE_EVERY_S + 5
