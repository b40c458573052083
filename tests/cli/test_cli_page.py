"""`t2v app`: the page as a process, on loopback, gone without a trace when it is told to."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 120


def own_folders(temporary: Path) -> list[Path]:
    return list(temporary.glob("t2v-page-*"))


@pytest.mark.slow
@pytest.mark.parametrize("stop, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_page_is_served_until_a_signal_and_leaves_nothing_behind(make_checkpoint, tmp_path, stop, status):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, REPOSITORY / "app.py", "--checkpoint", make_checkpoint(), "--runs", tmp_path / "runs"]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as page:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+", page.stdout.readline())[0]
            with urllib.request.urlopen(address) as answer:
                assert "t2v" in answer.read().decode()
            assert len(own_folders(temporary)) == 1
            page.send_signal(stop)
            assert page.wait(PATIENCE_S) == status
        finally:
            page.kill()
    assert own_folders(temporary) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny.safetensors", "tmp"]


def test_a_mistake_is_one_line(t2v):
    status, out, err = t2v("app", "--host", "0.0.0.0")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: other machines can reach 0.0.0.0: set a login with --auth")
