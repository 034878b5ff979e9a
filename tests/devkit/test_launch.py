"""The set-up that dev.py does before anything is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devkit import launch, uv, venv
from devkit.paths import ROOT
from devkit.say import DevError


@pytest.fixture
def comfyui(tmp_path, monkeypatch) -> Path:
    """A folder with what the set-up reads of a ComfyUI; the environment is a folder of the test's own."""
    monkeypatch.setattr(venv, "VENV", tmp_path / "venv")
    monkeypatch.delenv("DEV_PYTHON", raising=False)
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "comfyui_version.py").write_text('__version__ = "9.9.9"\n')
    (folder / "requirements.txt").write_text("numpy\n")
    return folder


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The arguments of every start of uv, which makes the interpreter's file and installs nothing."""
    calls: list[list[str]] = []

    def run(*arguments: str) -> None:
        calls.append(list(arguments))
        if arguments[0] == "venv":
            python = venv.python_path(Path(arguments[-1]))
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()

    monkeypatch.setattr(uv, "run", run)
    return calls


def test_an_unchanged_set_is_installed_once(comfyui, started):
    assert venv.ensure(comfyui) == venv.ensure(comfyui) == venv.python_path(venv.VENV)
    assert [call[0] for call in started] == ["venv", "pip"]
    (comfyui / "requirements.txt").write_text("numpy==2\n")
    venv.ensure(comfyui)
    assert [call[0] for call in started] == ["venv", "pip", "pip"]


def test_an_interrupted_installation_is_taken_up_again(comfyui, started, monkeypatch):
    def stop(*arguments: str) -> None:
        raise KeyboardInterrupt

    venv.ensure(comfyui)
    (comfyui / "requirements.txt").write_text("scipy\n")
    with monkeypatch.context() as broken:
        broken.setattr(uv, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            venv.ensure(comfyui)
    (comfyui / "requirements.txt").write_text("numpy\n")
    venv.ensure(comfyui)
    assert [call[0] for call in started] == ["venv", "pip", "pip"]


def test_a_half_made_environment_is_made_whole(tmp_path):
    """uv itself: an environment whose interpreter is missing, or leads nowhere, gets one; what is there stays."""
    folder = tmp_path / "venv"
    python = venv.python_path(folder)
    python.parent.mkdir(parents=True)
    (folder / "kept").touch()
    if os.name != "nt":
        python.symlink_to(tmp_path / "gone")
    assert not python.exists()
    uv.run("venv", "--allow-existing", "--python", uv.BASE_PYTHON, str(folder))
    assert subprocess.run([python, "-c", ""]).returncode == 0 and (folder / "kept").exists()


def test_another_version_has_an_environment_of_its_own(comfyui, started, monkeypatch, tmp_path):
    assert venv.interpreter(comfyui) == Path(sys.executable)
    monkeypatch.setattr("devkit.comfyui.COMFYUI_HOME", tmp_path)
    other = tmp_path / "0.16.3"
    comfyui.rename(other)
    monkeypatch.setattr(venv, "COMFYUI_HOME", tmp_path)
    assert venv.interpreter(other) == venv.python_path(tmp_path / "0.16.3-venv")
    assert str(other / "requirements.txt") in started[-1]
    monkeypatch.setenv("DEV_PYTHON", sys.executable)
    assert venv.interpreter(other) == Path(sys.executable)
    with pytest.raises(DevError, match="DEV_PYTHON lacks .*'browser'"):
        venv.add("browser")


@pytest.mark.parametrize(("gpu", "group"), [(False, "torch"), (True, "torch-nvidia")])
def test_a_gpu_takes_the_plain_build_of_torch(comfyui, started, monkeypatch, gpu, group):
    monkeypatch.setattr(venv, "has_nvidia_gpu", lambda: gpu)
    venv.ensure(comfyui)
    assert started[-1][-2:] == ["--group", group]


def test_pip_s_configuration_is_uv_s(monkeypatch):
    configured = (
        ":env:.find-links='/a /b'\nglobal.find-links='/c'\nglobal.index-url='https://mirror/simple'\n"
        "global.extra-index-url='file:///x\\nfile:///y'\ninstall.cert='/mine'\nlist.format='columns'\n"
    )
    monkeypatch.setattr(
        uv, "_pip", lambda *arguments: subprocess.CompletedProcess(arguments, 0, configured, "")
    )
    uv.pip_configuration.cache_clear()
    for name in [name for name in os.environ if name.startswith("UV_") or name == "SSL_CERT_FILE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_INDEX_STRATEGY", "first-index")
    variables = uv.environment()
    uv.pip_configuration.cache_clear()
    assert variables["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert variables["UV_INDEX"] == "file:///x file:///y"
    assert variables["UV_FIND_LINKS"] == "/a,/b"
    assert variables["SSL_CERT_FILE"] == "/mine"
    assert variables["UV_INDEX_STRATEGY"] == "first-index"


def test_a_python_without_pip_takes_the_uv_that_is_there_or_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(uv, "FOLDER", tmp_path / "none")
    monkeypatch.setattr(
        uv, "_pip", lambda *arguments: subprocess.CompletedProcess(arguments, 1, "", "No module named pip")
    )
    uv.executable.cache_clear()
    program = tmp_path / ("uv.exe" if os.name == "nt" else "uv")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevError, match="neither pip nor uv: .*apt install python3-pip"):
        uv.executable()
    program.touch(mode=0o755)
    assert Path(uv.executable()) == program
    uv.executable.cache_clear()


def test_a_failure_of_uv_is_a_sentence(capfd):
    with pytest.raises(DevError, match="uv no-such-command failed"):
        uv.run("no-such-command")
    assert "no-such-command" in capfd.readouterr().err


def test_help_and_unknown_commands_set_nothing_up(monkeypatch, capsys):
    def fail():
        raise AssertionError("set up")

    monkeypatch.setattr(launch, "set_up", fail)
    assert launch.main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out
    assert launch.main([]) == 2
    assert launch.main(["dance"]) == 2
    assert "no command 'dance'" in capsys.readouterr().err


def test_a_set_up_that_fails_is_one_line_and_an_exit_code(monkeypatch, capsys):
    def fail():
        raise DevError("No room left.")

    monkeypatch.setattr(launch, "set_up", fail)
    assert launch.main(["test"]) == 1
    assert capsys.readouterr().err == "dev.py: No room left.\n"


def test_the_launcher_needs_the_standard_library_only():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import devkit.launch\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(names - set(sys.stdlib_module_names) - {'devkit', '__main__', 'cpu_torch', 'sitecustomize'})\n"
    )
    command = [sys.executable, "-S", "-E", "-c", script, str(ROOT)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"
