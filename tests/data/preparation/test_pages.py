"""The pages on preparing data, walked through: Python as it stands there, commands with what they say there."""

import re
from pathlib import Path

import pytest

from skelcontrast.data.__main__ import main

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide"
COMMAND = "$ python -m skelcontrast.data "


@pytest.mark.parametrize("page", ["prepare_ntu.md", "prepare_pku.md"])
def test_a_page_says_what_its_commands_say(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    commands = 0
    for kind, block in re.findall(r"^```(python|console)\n(.*?)^```$", (GUIDE / page).read_text(), re.M | re.S):
        if kind == "python":
            exec(block, names)  # noqa: S102  our own page
            continue
        command, _, said = block.partition("\n")
        assert command.startswith(COMMAND)
        capsys.readouterr()
        assert main(command.removeprefix(COMMAND).split()) == 0
        assert capsys.readouterr().out == said
        commands += 1
    assert commands == len(re.findall("^```console", (GUIDE / page).read_text(), re.M)) > 0
