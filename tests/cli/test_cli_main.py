"""The command as such: quick to answer, clear about errors, and quiet on stdout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import t2v as package
from t2v.cli.main import app

T2V = Path(sys.executable).with_name("t2v")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from t2v.cli.main import main\n"
        f"for command in {COMMANDS}:\n"
        "    sys.argv = ['t2v', command, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'transformers', 'gradio', 'numpy', 'PIL', 'imageio', 'rich'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.count("Usage: t2v") == len(COMMANDS)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_installed_command_answers():
    ran = subprocess.run([T2V, "--version"], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == (f"t2v {package.__version__}\n", "")


def test_help_lists_every_command(t2v):
    status, out, err = t2v("-h")
    assert (status, err) == (0, "")
    listed = out[out.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in listed] == COMMANDS
    assert {"train", "generate", "check", "worlds", "import", "info"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_each_of_its_options(t2v, command):
    status, out, err = t2v(command, "--help")
    assert (status, err) == (0, "")
    assert "Usage: t2v" in out and "..." not in out
    parsed = typer.main.get_command(app).commands[command]
    assert [one.name for one in parsed.params if not getattr(one, "help", "given below")] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("paint",),
        ("generate", "x", "--colour", "red"),
        ("generate", "x", "--frames", "0"),
        ("generate", "x", "--frames", "129"),
        ("generate", "x", "--frames", "many"),
        ("generate", "x", "--sampler", "magic"),
        ("generate", "x", "--fps", "0"),
        ("generate", "x", "--fps", "nan"),
        ("generate", "x", "--percentile", "0"),
        ("generate", "x", "--scale", "0"),
        ("generate", "x" * 1001),
        ("generate", "two", "prompts"),
        ("worlds",),
        ("worlds", "x", "--num-clips", "0"),
        ("check",),
        ("info",),
        ("import", "only-one.pt"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_how_to_get_help(t2v, arguments):
    status, out, err = t2v(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("Usage: t2v") and "Error: " in err and "Traceback" not in err


def test_a_value_out_of_range_is_named_with_its_range(t2v):
    assert "--frames" in t2v("generate", "x", "--frames", "0").err
    assert "fps: Input should be greater than 0, not 0.0" in t2v("generate", "x", "--fps", "0").err


def test_an_error_is_one_line_and_with_debug_a_traceback(refused, t2v):
    assert "nowhere" in refused("info", "nowhere")
    for arguments in (("--debug", "info", "nowhere"), ("info", "nowhere", "--debug"), ("info", "--debug", "nowhere")):
        with pytest.raises(package.errors.ClipError, match="nowhere"):
            t2v(*arguments)


def test_debug_prints_a_traceback_and_ends_with_status_1(tmp_path):
    ran = subprocess.run([T2V, "info", "nowhere", "--debug"], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Traceback") and "ClipError: there is no file nowhere" in ran.stderr


def test_what_the_system_refuses_is_one_line_too(refused, tmp_path, monkeypatch):
    (tmp_path / "secret.gif").touch()

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("t2v.data.made_by.read_metadata", refuse)
    assert refused("info", "secret.gif") == "error: secret.gif: Permission denied\n"


def test_a_terminal_that_cannot_show_a_letter_shows_its_number(tmp_path):
    ran = subprocess.run(
        [T2V, "info", "火.gif"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
    )
    assert ran.returncode == 1
    assert b"\\u706b.gif" in ran.stderr and b"Traceback" not in ran.stderr


def test_a_shell_completes_commands_and_options():
    def complete(words):
        env = {"_T2V_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return subprocess.run([T2V], capture_output=True, text=True, env={**os.environ, **env}).stdout

    assert "generate" in complete("t2v gen")
    assert "--guidance-scale" in complete("t2v generate --gui")


def test_the_completion_script_can_be_shown():
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ran = subprocess.run([T2V, "--show-completion", "bash"], capture_output=True, text=True, env=env)
    assert ran.returncode == 0 and "_T2V_COMPLETE" in ran.stdout


@pytest.mark.parametrize("chosen", [None, "ACTIVE"])
def test_threads_wait_without_spinning_unless_asked_to(t2v, monkeypatch, chosen):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    t2v("--version")
    assert os.environ["OMP_WAIT_POLICY"] == (chosen or "PASSIVE")
