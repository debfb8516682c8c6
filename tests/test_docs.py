"""What the documents say is so: links lead somewhere, commands exist, studies are valid, pages are current."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from places import ROOT

from spillover import __version__
from spillover.cli.main import COMMANDS, cli
from spillover.config.study import load_study, parse_study

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every fenced block in that language."""
    found = [(named(page), match) for page in PAGES for match in FENCE.finditer(page.read_text("utf-8"))]
    return [(page, match[2]) for page, match in found if match[1] == language]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), f"{named(page)}: no {target}"
        if anchor:
            assert anchor in anchors(place), f"{named(page)}: no heading {target}"


def test_pages_that_the_code_names_are_there() -> None:
    for file in sorted((ROOT / "src").rglob("*.py")):
        for name in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{named(file)}: no {name}"


def commands_shown() -> Iterator[tuple[str, list[str]]]:
    for page, text in blocks("sh"):
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].rpartition("/")[2] == "spillover":
                yield page, words[1:]


@pytest.mark.parametrize(("page", "words"), [pytest.param(*shown, id=" ".join(shown[1])) for shown in commands_shown()])
def test_commands_shown_parse(page: str, words: list[str]) -> None:
    """Every command line is taken by the real parser, without running it."""
    words = [word for word in words if "*" not in word] + [str(ROOT / "README.md") for word in words if "*" in word]
    command: click.Command = cli
    context = click.Context(cli, info_name="spillover")
    while isinstance(command, click.Group):
        inner = command.get_command(context, words[0])
        if inner is None:  # a group may put its usual command in front
            inside = command.make_context(command.name, [*words], parent=context)
            words = [*inside._protected_args, *inside.args]
            inner = command.get_command(context, words[0])
        assert inner is not None, f"{page}: no command {words[0]}"
        command, words = inner, words[1:]
    command.make_context(command.name, words, parent=context)


def test_every_command_is_shown_somewhere() -> None:
    shown = {words[0] for _, words in commands_shown()}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize(("page", "text"), [block for block in blocks("yaml") if block[1].startswith("name:")])
def test_studies_shown_are_valid(page: str, text: str) -> None:
    parse_study(yaml.safe_load(text), page)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=named)
def test_examples_are_valid(path: Path) -> None:
    assert load_study(path).name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.sbatch")), ids=named)
def test_scripts_are_shell(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize(("page", "text"), blocks("json"))
def test_json_shown_is_json(page: str, text: str) -> None:
    json.loads(text)


@pytest.mark.slow
def test_generated_pages_are_what_the_code_says() -> None:
    # In a process of its own: a command that has run in this one may show its options in another order.
    code = "import json, runpy; print(json.dumps(runpy.run_path('docs/generate.py')['pages']()))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name, text in json.loads(shown).items():
        written = ROOT / "docs" / "reference" / name
        assert written.read_text("utf-8") == text, f"{named(written)} is old. Run: make docs"


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    rooms = ("tutorials", "how-to", "explanation", "reference")
    for page in (page for room in rooms for page in (ROOT / "docs" / room).glob("*.md")):
        assert f"({page.relative_to(ROOT / 'docs')})" in index, f"docs/README.md does not name {named(page)}"


def test_the_map_is_what_the_import_contract_and_the_packages_say() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "generate.py"))["map_of_the_house"]()
    assert f"<!-- map -->\n{drawn}\n<!-- /map -->" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = [
        path
        for path in (ROOT / "src" / "spillover").rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert rooms == []


def test_versions_and_pins_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert project["version"] == citation["version"] == __version__
    pins = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+", pin) for pin in pins)
    pinned = {pin.partition("==")[0] for pin in pins}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[\[>=]", need)[0] for need in wanted} <= pinned


def test_documents_hold_no_absolute_path() -> None:
    text = "".join(page.read_text("utf-8") for page in [*PAGES, ROOT / "Makefile", ROOT / "constraints.txt"])
    assert re.search(r"(?<![\w.])/(home|root|work|tmp|opt)/", text) is None
