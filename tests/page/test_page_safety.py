"""What the page must not do: give files away, fetch addresses, let strangers in, tell anybody, or leave traces."""

import os
import socket
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest
from gradio import processing_utils, route_utils
from gradio_client.exceptions import AuthenticationError

import t2v
from t2v.page import launch, serve_page, shelf
from t2v.page.addresses import REFUSAL

PATIENCE_S = 60
SECRET = "nobody's business"


@pytest.fixture(scope="module")
def client(page, connect):
    return connect(page.address)


@pytest.fixture(scope="module")
def http(page):
    with httpx.Client(base_url=page.address, timeout=PATIENCE_S) as http:
        yield http


def raw_get(address, path):
    """Status line and content for a path that is sent as it stands; any other client would mend it first."""
    host, port = httpx.URL(address).host, httpx.URL(address).port
    with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
        connection.sendall(
            b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, content


def generate(client, **choices):
    asked = {"prompt": "fireworks at night", "num_steps": 1, "seed": 3} | choices
    return client.predict(**asked, api_name="/generate")


# Files.


@pytest.fixture(scope="module")
def outside(page, tmp_path_factory):
    """Files that are nobody's business, by what they are."""
    folder = page.folder / "runs" / "private"
    folder.mkdir(parents=True)
    (folder / "secret.txt").write_text(SECRET)
    beside = page.own_folder.with_name(f"{page.own_folder.name}-beside")  # begins with the name of the page's folder
    beside.mkdir()
    (beside / "secret.txt").write_text(SECRET)
    yield {
        "system": Path("/etc/passwd"),
        "environment": Path("/proc/self/environ"),
        "checkpoint": page.checkpoint,
        "run": folder / "secret.txt",
        "source": Path(t2v.__file__).resolve(),
        "beside": beside / "secret.txt",
    }
    (beside / "secret.txt").unlink()
    beside.rmdir()


DISGUISES = {
    "as it is": lambda path, own: str(path),
    "encoded": lambda path, own: quote(str(path), safe=""),
    "encoded twice": lambda path, own: quote(quote(str(path), safe=""), safe=""),
    "by dots": lambda path, own: f"{own}/../../../../../../../..{path}",
    "by encoded dots": lambda path, own: f"{own}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{path}",
    "by dots encoded twice": lambda path, own: f"{own}/%252e%252e/%252e%252e/%252e%252e/%252e%252e{path}",
    "by encoded slashes": lambda path, own: f"{own}%2f..%2f..%2f..%2f..%2f..%2f..%2f..{quote(str(path), safe='')}",
    "by backslashes": lambda path, own: f"{own}\\..\\..\\..\\..{path}",
    "with two slashes": lambda path, own: f"/{path}",
    "by a scheme": lambda path, own: f"file://{path}",
    "after a null byte": lambda path, own: f"{own}/x%00/../../../../..{path}",
    "before a null byte": lambda path, own: f"{path}%00.gif",
    "by the process": lambda path, own: f"/proc/self/root{path}",
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize(
    "route", ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/clips/", "/static/", "/assets/"]
)
def test_no_file_outside_its_own_folder_is_served(page, outside, route, disguise):
    for kind, path in outside.items():
        asked = route + DISGUISES[disguise](path, page.own_folder)
        status, content = raw_get(page.address, asked)
        assert status in (400, 403, 404), (kind, asked, status)
        told = path.read_bytes()[:40]
        assert told not in content and SECRET.encode() not in content


def test_what_a_clip_is_served_by_is_seen_to_work(page, client, http):
    """Else every refusal above would prove nothing."""
    generate(client)
    kept = list(page.studio.shelf._clips.values())[-1]
    assert http.get(f"clips/{kept.id}.gif").content[:6] == b"GIF89a"
    assert http.get(f"gradio_api/file={kept.folder}/clip.gif").content[:6] == b"GIF89a"
    for dots in ("/clips/../clips/", "/clips/%2e%2e/clips/", "/clips//"):
        assert raw_get(page.address, f"{dots}{kept.id}.gif")[0] == 404


def test_a_link_that_leads_out_of_its_folder_is_not_followed(page, outside, http):
    for name, path in outside.items():
        link = page.own_folder / "clips" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
        try:
            assert http.get(f"gradio_api/file={link}").status_code == 403
            assert http.get(f"clips/{name}").status_code == 404
        finally:
            link.unlink()


def test_an_upload_lies_where_only_who_knows_its_content_would_look(page, http):
    """At the hash of its content, which is served to whoever names it; folders are not listed."""
    mine = http.post("gradio_api/upload", files={"files": ("note.txt", SECRET.encode())}).json()[0]
    content_hash = Path(mine).parent.name
    assert len(content_hash) == 64 and Path(mine).parent.parent == page.own_folder
    assert http.get(f"gradio_api/file={page.own_folder}").status_code == 403
    assert http.get(f"gradio_api/file={page.own_folder}/").status_code == 403


def file_at(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def events(http):
    """Every event of the page, public or private: its number and how many inputs it takes."""
    config = http.get("config").json()
    return [(one["id"], len(one["inputs"])) for one in config["dependencies"] if one["backend_fn"]]


def send(http, fn_index, inputs):
    """The answers to an event, asked for by the queue and directly."""
    asked = {"data": inputs, "fn_index": fn_index, "session_hash": f"visitor-{time.monotonic_ns()}"}
    joined = http.post("gradio_api/queue/join", json=asked)
    if joined.status_code == 200:
        yield http.get("gradio_api/queue/data", params={"session_hash": asked["session_hash"]}).text
    yield http.post("gradio_api/run/predict", json=asked).text


def test_no_event_takes_a_file_that_was_not_uploaded(page, outside, http):
    for fn_index, num_inputs in events(http):
        path = outside[list(outside)[fn_index % len(outside)]]
        for answer in send(http, fn_index, [file_at(path)] * num_inputs):
            assert not any(name.read_text(errors="replace")[:40] in answer for name in outside.values())
    copied = {file.name for file in page.own_folder.rglob("*")}
    assert not copied & {path.name for path in outside.values()}


def test_a_file_that_was_uploaded_is_taken(page, http, client):
    """Else the refusal above would prove nothing."""
    files, _ = generate(client, seed=77, prompt="green")
    path = http.post("gradio_api/upload", files={"files": ("mine.gif", Path(files[0]).read_bytes())}).json()[0]
    config = http.get("config").json()
    fn_index = next(one["id"] for one in config["dependencies"] if any("upload" in target for target in one["targets"]))
    assert all("The settings of that clip are back." in answer for answer in send(http, fn_index, [file_at(path)]))


# Addresses.


@pytest.fixture
def elsewhere():
    """Another server, which writes down who comes; gives its address and the list."""
    came = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            came.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/clip.gif", came
        server.shutdown()


@pytest.fixture
def would_fetch(monkeypatch):
    """Addresses that gradio was about to fetch, where its own rules about loopback would hide whether ours act."""
    tried = []

    async def fetch(address, *args, **options):
        tried.append(str(address))
        raise OSError("not fetched")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    monkeypatch.setattr(route_utils.safehttpx, "async_validate_url", fetch)
    return tried


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("route", ["file=", "file/", "proxy="])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_address_is_fetched_and_passed_on(http, elsewhere, would_fetch, method, route, scheme):
    address, came = elsewhere
    for asked in (address, "http://example.org/clip.gif", "http:%2f%2fexample.org/clip.gif", "%68ttp://example.org/"):
        answer = http.request(method, f"gradio_api/{route}{asked.replace('http', scheme, 1)}")
        assert answer.status_code in (400, 403) and "location" not in answer.headers
    assert came == [] and would_fetch == []


def test_no_event_fetches_an_address_in_place_of_a_file(http, elsewhere, would_fetch):
    address, came = elsewhere
    inputs = [file_at(address), [file_at(address)], {"files": [file_at(address)]}, file_at("https://example.org/a.gif")]
    numbers = events(http)
    assert len(numbers) > 10
    for fn_index, num_inputs in numbers:
        if num_inputs:
            for one in inputs:
                for answer in send(http, fn_index, [one] * num_inputs):
                    assert REFUSAL in answer
    assert came == [] and would_fetch == []


def test_an_address_is_refused_after_the_page_has_changed_its_controls(http, would_fetch):
    """Gradio then makes new controls for the visitor, which know nothing of what was done to the first ones."""
    config = http.get("config").json()
    load = next(one["id"] for one in config["dependencies"] if any("load" in target for target in one["targets"]))
    session = {"session_hash": "a visitor who arrives"}
    http.post("gradio_api/run/predict", json={"data": [], "fn_index": load} | session).raise_for_status()
    for fn_index, num_inputs in events(http):
        if num_inputs:
            inputs = [file_at("http://example.org/a.gif")] * num_inputs
            http.post("gradio_api/run/predict", json={"data": inputs, "fn_index": fn_index} | session)
    assert would_fetch == []


def test_without_our_refusal_gradio_would_fetch(http, would_fetch, page, monkeypatch):
    """Else the tests above would prove nothing."""
    monkeypatch.setattr("t2v.page.addresses._holds_address", lambda value: False)
    fn_index, num_inputs = next(event for event in events(http) if event[1])
    list(send(http, fn_index, [file_at("http://example.org/a.gif")] * num_inputs))
    assert would_fetch


def test_a_file_that_is_too_large_is_refused(page, http):
    before = sum(file.stat().st_size for file in page.own_folder.rglob("*") if file.is_file())
    most = int(launch.MAX_UPLOAD.removesuffix("mb")) * 1_000_000
    answer = http.post("gradio_api/upload", files={"files": ("big.gif", b"\0" * int(1.1 * most))})
    assert answer.status_code == 413 and "maximum allowed size" in answer.text
    after = sum(file.stat().st_size for file in page.own_folder.rglob("*") if file.is_file())
    assert after - before < most


# Who is let in.


def test_only_this_machine_is_listened_to(page):
    port = httpx.URL(page.address).port
    listening = [one.laddr for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert [address.ip for address in listening if address.port == port] == ["127.0.0.1"]


def test_without_the_login_nothing_is_to_be_had(serve, connect):
    address = serve(auth="anna:secret")
    with pytest.raises(AuthenticationError):
        connect(address)
    with httpx.Client(base_url=address) as stranger:
        assert "setting-prompt" not in stranger.get("").text
        asked = {"data": [], "fn_index": 0, "session_hash": "x"}
        for method, path, body in [
            ("GET", "config", None),
            ("GET", "gradio_api/info", None),
            ("GET", "gradio_api/openapi.json", None),
            ("POST", "gradio_api/queue/join", asked),
            ("GET", "gradio_api/queue/data?session_hash=x", None),
            ("POST", "gradio_api/run/predict", asked),
            ("POST", "gradio_api/run/checkpoints", asked),
            ("POST", "gradio_api/call/generate", {"data": ["a"]}),
            ("POST", "gradio_api/call/v2/generate", {"prompt": "a"}),
            ("GET", "gradio_api/call/generate/x", None),
            ("POST", "gradio_api/upload", None),
            ("GET", "gradio_api/file=/etc/passwd", None),
            ("POST", "gradio_api/component_server", asked),
        ]:
            assert stranger.request(method, path, json=body).status_code == 401, path
        for wrong in ({"username": "anna", "password": "wrong"}, {"username": "berta", "password": "secret"}):
            assert stranger.post("login", data=wrong).status_code == 400


def test_with_the_login_all_works(serve, connect):
    client = connect(serve(auth="anna:secret"), auth=("anna", "secret"))
    files, _ = generate(client)
    assert Path(files[0]).exists()


def test_a_clip_needs_its_name_of_128_bits_rather_than_the_login(serve, connect):
    """So that a link to a clip can be passed on; who does not have it cannot guess it."""
    address = serve(auth="anna:secret")
    files, _ = generate(connect(address, auth=("anna", "secret"), download_files=False))
    name = Path(files[0]["path"]).parent.name
    assert len(name) == 22  # 16 random bytes in base64
    assert httpx.get(f"{address}clips/{name}.gif").status_code == 200
    assert httpx.get(f"{address}clips/{name[:-1]}.gif").status_code == 404


# What is told, and what is left.


def test_nobody_is_told(serve, connect, monkeypatch):
    asked, look_up, connecting = [], socket.getaddrinfo, socket.socket.connect

    def note_name(host, *args, **options):
        asked.append(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *args, **options)

    def note_address(self, address):
        asked.append(address[0] if isinstance(address, tuple) else "a socket of this machine")
        return connecting(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", note_name)
    monkeypatch.setattr(socket.socket, "connect", note_address)
    generate(connect(serve()))
    assert asked and set(asked) <= {"127.0.0.1", "localhost", None}


def test_nothing_is_left_when_the_page_is_closed(make_checkpoint, tmp_path, monkeypatch, connect):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "as it was")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    checkpoint = make_checkpoint()
    environment, here = dict(os.environ), set(tmp_path.iterdir())
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with serve_page(checkpoint=checkpoint, checkpoints=tmp_path / "none") as address:
        generate(connect(address, download_files=False))
        [folder] = (tmp_path / "temporary").glob("t2v-page-*")
        assert dict(os.environ) != environment and any(folder.rglob("clip.gif"))
    assert not folder.exists()
    assert dict(os.environ) == environment
    assert set(tmp_path.iterdir()) - {tmp_path / "temporary"} == here
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_nothing_is_left_of_a_page_that_could_not_start(tmp_path, monkeypatch):
    (tmp_path / "broken.safetensors").write_bytes(b"")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = dict(os.environ)
    with pytest.raises(t2v.errors.CheckpointError), serve_page(checkpoint=tmp_path / "broken.safetensors"):
        pass
    assert dict(os.environ) == environment and not list(tmp_path.glob("t2v-page-*"))


def test_a_clip_is_gone_when_its_time_is_over(serve, connect, until, monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(shelf, "Shelf", partial(shelf.Shelf, clock=lambda: clock["now"]))
    monkeypatch.setattr(launch, "SWEEP_EVERY_S", 0.05)
    address = serve(keep_s=100)
    files, _ = generate(connect(address, download_files=False))
    file = Path(files[0]["path"])

    def answer():
        return httpx.get(f"{address}clips/{file.parent.name}.gif", timeout=PATIENCE_S)

    assert answer().status_code == 200
    clock["now"] = 100
    until(lambda: answer().status_code == 404)
    assert answer().text == "there is no such clip here any more" and file.exists()
    clock["now"] += shelf.LINGER_S
    until(lambda: not file.exists())
