"""Commands in the documentation exist: each is parsed by the parser that would read it, and none is run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pgpt_lib import cli
from pgpt_lib.backbones import BACKBONES
from pgpt_lib.commands.data import SAM
from pgpt_lib.config import load_profile
from pgpt_lib.data.benchmarks import TABLES, TUNED_ON
from pgpt_lib.project import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FULL_SCALE = ROOT / "docs" / "full_scale.md"
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]  # of any argument that no command takes
SHELLS = ("", "sh", "bash", "console")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def in_blocks(page: Path) -> list[str]:
    """The command lines of ours in a page's code blocks, without their comments: whole commands."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = [line for language, block in blocks if language in SHELLS for line in block.splitlines()]
    lines = [re.sub(r"\[(--[^\]]*)\]", r"\1", line) for line in lines]  # [--json]: may be left out
    found = [" ".join(re.sub(r"(^|\s+)#.*", "", line).split()) for line in lines]
    return [line for line in found if "-m pgpt_lib " in line or line.startswith(("docs/", "sbatch "))]


def in_text(page: Path) -> list[str]:
    """Commands that running text names, often without what they need."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"`[^`\n]*-m pgpt_lib ([^`\n]*)`", text)


def ours(line: str) -> list[str] | None:
    """The arguments that `python -m pgpt_lib` gets from a command line, None where it calls something else."""
    _, found, arguments = line.partition("-m pgpt_lib ")
    return re.split(r"\s(?:&|;|\|)\s", arguments)[0].split() if found else None  # of a loop in the shell its body


def named(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that arguments name, and the arguments that are left for it."""
    command: Any = typer.main.get_command(cli.app)
    rest = list(arguments)
    while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
        found = command.get_command(typer.Context(command), rest.pop(0))
        assert found is not None, f"there is no {arguments[len(arguments) - len(rest) - 1]!r}"
        command = found
    return command, rest


def parse(arguments: list[str]) -> None:
    """Let the command's own parser read its arguments."""
    command, rest = named(arguments)
    command.make_context(command.name, rest)


def launched(line: str) -> Iterator[str]:
    """What is wrong with an `accelerate launch` line."""
    from accelerate.commands.launch import launch_command_parser

    given = launch_command_parser().parse_args(line.split()[2:])
    if not given.module or given.training_script != "pgpt_lib":
        yield "it does not run the module"
    if not (ROOT / given.config_file).is_file():
        yield f"no {given.config_file}"


BLOCKS = [pytest.param(line, id=f"{page.stem}: {line[-70:]}") for page in PAGES for line in in_blocks(page)]
TEXTS = [pytest.param(line, id=f"{page.stem}: {line}") for page in PAGES for line in in_text(page)]


@pytest.mark.parametrize("line", BLOCKS)
def test_a_documented_command_is_one(line: str) -> None:
    words = line.split()
    if words[0] == "accelerate":
        assert list(launched(line)) == []
    if words[0] == "sbatch" or words[0].startswith("docs/"):
        script, profile, *_ = words[1:] if words[0] == "sbatch" else words
        assert subprocess.run(["bash", "-n", script], cwd=ROOT).returncode == 0 and load_profile(profile)
    arguments = ours(line)
    if arguments is not None:
        parse(arguments)


def test_the_courses_commands_run_without_an_activated_environment() -> None:
    """`make setup` installs into .venv and activates nothing."""
    lines = in_blocks(ROOT / "docs" / "course.md")
    assert len(lines) >= 10
    assert [line for line in lines if not line.startswith(".venv/bin/python ")] == []


@pytest.mark.parametrize("line", TEXTS)
def test_a_command_named_in_the_text_exists(line: str) -> None:
    command, rest = named(line.split())
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known


def called() -> list[str]:
    """The arguments of our commands in the full-scale page, in their order."""
    return [" ".join(arguments) for line in in_blocks(FULL_SCALE) if (arguments := ours(line))]


def test_the_way_to_the_papers_tables_is_whole() -> None:
    """Every source of the paper's profile is fetched before it is trained on; each data set is tuned on and scored."""
    lines = called()
    first = {word: next(i for i, line in enumerate(lines) if line.startswith(word)) for word in ("train", "finetune")}
    fetched = {line.split()[1] for line in lines[: first["train"]] if line.startswith("data ")}
    sources = {re.sub("^coco_.*", "coco", name) for name in load_profile("paper-7b").data.sources}
    assert sources | {"karpathy", "sam-labels", "leakage"} <= fetched and first["train"] < first["finetune"]
    asked = [re.findall(r"--dataset (\S+) --split (\S+)", line) for line in lines if line.startswith("evaluate ")]
    scored = {"/".join(pair) for pairs in asked for pair in pairs}
    others = re.compile("refcoco[+g]/")  # "likewise"
    wanted = {name for table in ("table2", "table3", "table5") for name in TABLES[table] if not others.match(name)}
    assert scored == wanted
    tuned = {line.split("--on ")[1].split()[0] for line in lines if line.startswith("finetune ")}
    assert tuned == {next(iter(TUNED_ON[name.split("/")[0]])) for name in wanted}
    needing = ("train --profile paper", "finetune", "data ", "evaluate --checkpoint runs/7b")
    assert all("--root" in line for line in lines if line.startswith(needing))


def test_the_chapters_follow_a_labs_way() -> None:
    """Disks, downloads, the guard, the estimate, launching, going on, fine-tuning, scores, sweeps."""
    page = FULL_SCALE.read_text(encoding="utf-8")
    words = ("Disks", "Downloads", "guard", "estimate", "Launching", "going on", "Fine-tuning", "Scores", "Sweeps")
    headings = re.findall("^## (.*)$", page, re.M)
    places = [next(i for i, heading in enumerate(headings) if word in heading) for word in words]
    assert places == sorted(places)
    chapters = re.split("^## ", page, flags=re.M)[2:]  # the list in short stands before them
    body = [line for chapter in chapters[places[0] :] for line in re.findall(r"-m pgpt_lib (\w+ ?\w*)", chapter)]
    first = [next(i for i, line in enumerate(body) if line.startswith(word)) for word in
             ("data refcoco_m", "data leakage", "estimate", "train", "finetune", "evaluate", "sweep")]  # fmt: skip
    assert first == sorted(first)


def test_the_backbones_to_fetch_ahead_are_those_of_the_profile() -> None:
    profile = load_profile("paper-7b")
    wanted = {str(BACKBONES[name].hub) for name in (profile.llm.name, profile.vision.name)} | {SAM}
    assert set(re.findall("^hf download (\\S+)", FULL_SCALE.read_text(encoding="utf-8"), re.M)) == wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_shell_can_read_what_it_is_given(page: Path) -> None:
    blocks = [block for language, block in BLOCK.findall(page.read_text(encoding="utf-8")) if language in SHELLS]
    given = [block for block in blocks if "-m pgpt_lib" in block or "hf download" in block]
    for block in given:
        done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "wrong", ["trian --profile smoke", "train --profile smoke --outt x", "estimate --gpus many", "data coco", "score"]
)
def test_a_broken_command_is_noticed(wrong: str) -> None:
    with pytest.raises((AssertionError, USAGE_ERROR)):
        parse(wrong.split())
