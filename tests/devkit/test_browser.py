"""Where the browser comes from, and that nothing installs one unasked."""

from __future__ import annotations

import pytest

from devkit import browser
from devkit import test as test_command


@pytest.fixture
def installations(monkeypatch) -> list[str]:
    """A machine without a browser; what would be installed there."""
    calls: list[str] = []
    monkeypatch.setattr(browser, "_found", lambda: None)
    monkeypatch.setattr(browser, "install", lambda: calls.append("chromium"))
    for name in ("CI", "BROWSER_PATH"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_no_browser_is_installed_unasked(installations, monkeypatch, tmp_path):
    with pytest.raises(
        browser.NoBrowserError, match="apt-get install chromium .*--install-browser.*BROWSER_PATH"
    ):
        browser.executable()
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(browser.NoBrowserError, match="not a file"):
        browser.executable()
    assert installations == []


def test_a_browser_is_installed_in_ci_and_on_request(installations, monkeypatch):
    monkeypatch.setattr(test_command.lint, "main", lambda argv: 0)
    commands = []
    monkeypatch.setattr(
        test_command.subprocess,
        "run",
        lambda command, cwd: commands.append(command) or test_command.subprocess.CompletedProcess(command, 0),
    )
    assert test_command.main(["--install-browser", "tests/web"]) == 0
    assert installations == ["chromium"] and commands[0][-1] == "tests/web"
    assert "--install-browser" not in commands[0]
    monkeypatch.setenv("CI", "true")
    with pytest.raises(browser.NoBrowserError):
        browser.executable()
    assert installations == ["chromium"] * 2
