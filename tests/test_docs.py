"""README and docs: code blocks run, commands and options exist, links resolve."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from cardiojax import cli

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.is_file()]


def blocks(language: str) -> list:
    snippets = []
    for page in PAGES:
        for number, code in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)):
            snippets.append(pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}"))
    return snippets


@pytest.mark.parametrize("code", blocks("python"))
def test_code_runs_as_it_stands(code, capsys):
    exec(compile(code, "block", "exec"), {})


def options_of(command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        cli.main([*command.split(), "--help"])
    return page.getvalue()


def test_commands_and_their_options_exist():
    lines = [line for block in blocks("sh") for line in block.values[0].splitlines()]
    calls = [call for line in lines for call in re.findall(r"(?:^|&& )cardiojax ([^#&\n]+)", line)]
    assert calls
    for call in calls:
        command = next((name for name in cli.COMMANDS if call.startswith(name)), None)
        assert command is not None, call
        known = options_of(command)
        for option in re.findall(r"--[a-z][\w.-]*", call.removeprefix(command)):
            assert option in known or option == "--help", f"cardiojax {command} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target
