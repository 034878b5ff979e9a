"""The set-up that dev.py does before anything is installed."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest

from devkit import launch, requirements, venv
from devkit.lock import locked
from devkit.paths import ROOT
from devkit.say import DevError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A virtual environment folder of the test's own."""
    for name, path in (("VENV", ""), ("LOG", "pip.log"), ("STAMP", "installed.sha256")):
        monkeypatch.setattr(venv, name, tmp_path / "venv" / path)
    monkeypatch.setattr(venv.python_path, "__defaults__", (tmp_path / "venv",))
    return tmp_path / "venv"


@pytest.fixture
def pip_calls(folder, monkeypatch):
    """The arguments of every call of pip, which does nothing."""
    calls = []
    monkeypatch.setattr(venv, "pip", lambda arguments: calls.append(list(arguments)))
    folder.mkdir()
    return calls


def test_an_incomplete_environment_is_made_anew(folder, capsys):
    (folder / "bin").mkdir(parents=True)
    (folder / "half-made").touch()
    venv.ensure()
    said = capsys.readouterr().out
    assert "Removing the incomplete" in said and "Making a virtual environment" in said
    assert not (folder / "half-made").exists()
    assert venv.python_path(folder).exists()
    (folder / "kept").touch()
    venv.ensure()
    assert (folder / "kept").exists() and capsys.readouterr().out == ""


def test_a_python_without_ensurepip_gets_the_remedy(folder, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **named):
        if name == "ensurepip":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DevError, match="apt install python3-venv"):
        venv.ensure()


def test_an_unchanged_set_is_installed_once(folder, pip_calls):
    venv.install(["a", "b==1"])
    venv.install(["a", "b==1"])
    assert len(pip_calls) == 1
    venv.install(["a", "b==2"])
    assert len(pip_calls) == 2


def test_an_interrupted_installation_is_taken_up_again(folder, pip_calls, monkeypatch):
    venv.install(["a"])

    def stop(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(venv, "pip", stop)
    with pytest.raises(KeyboardInterrupt):
        venv.install(["b"])
    assert not venv.STAMP.exists()
    monkeypatch.setattr(venv, "pip", lambda arguments: pip_calls.append(list(arguments)))
    venv.install(["a"])
    assert len(pip_calls) == 2


def run_script(folder, monkeypatch, script: str) -> None:
    """Let venv.pip run a script of the test instead of pip; it counts its starts in the file `count`."""
    program = folder.parent / "program.py"
    program.write_text(
        "import pathlib, sys\n"
        f"count = pathlib.Path({str(folder.parent / 'count')!r})\n"
        "tries = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(tries))\n" + script
    )
    monkeypatch.setattr(venv.time, "sleep", lambda seconds: None)
    real = venv._run_logged
    monkeypatch.setattr(venv, "_run_logged", lambda command, log: real([sys.executable, str(program)], log))
    venv.pip(["install", "x"], log=folder.parent / "log")


def test_network_trouble_is_tried_again(folder, monkeypatch, capsys):
    run_script(folder, monkeypatch, "if tries < 3: sys.exit('ReadTimeoutError: Read timed out.')\n")
    assert (folder.parent / "count").read_text() == "3"
    assert capsys.readouterr().out.count("The network failed; trying again") == 2


def test_another_failure_shows_the_end_of_the_log_at_once(folder, monkeypatch):
    with pytest.raises(DevError, match=r"(?s)pip install failed.*log:\n.*no such package"):
        run_script(folder, monkeypatch, "print('noise\\n' * 99)\nsys.exit('no such package')\n")
    assert (folder.parent / "count").read_text() == "1"


def test_a_gpu_takes_the_plain_build_of_torch(monkeypatch):
    monkeypatch.setattr(requirements, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(requirements.sys, "platform", "linux")
    assert all("===" in line for line in requirements.torch_requirements())
    monkeypatch.setattr(requirements, "has_nvidia_gpu", lambda: False)
    assert all(line.count("=") == 2 for line in requirements.torch_requirements())


def test_the_lock_lets_one_in(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom devkit.lock import _try_lock\nimport os\n"
        "sys.exit(not _try_lock(os.open(sys.argv[2], os.O_RDWR)))\n"
    )
    command = [sys.executable, "-c", script, str(ROOT), str(tmp_path / "lock")]
    with locked(tmp_path / "lock"):
        assert subprocess.run(command).returncode == 1
    assert subprocess.run(command).returncode == 0


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
