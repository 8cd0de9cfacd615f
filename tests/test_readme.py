"""Every ```python block of the README and of the guides runs as it stands, page by page, in order."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = "<!-- not run:"
"""A block right behind this comment is left out; the comment says why."""
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "_build" not in path.parts and "```python\n" in path.read_text(encoding="utf-8")
]


def blocks(text: str) -> list[str]:
    """Return the code of a page's ```python blocks, each behind as many empty lines as to keep its line numbers."""
    found = []
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip()
        if not before.rpartition("\n")[2].startswith(NOT_RUN):
            found.append("\n" * text[: match.start(1)].count("\n") + match[1])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"))):
        script = tmp_path / f"{page.stem}_block_{number}.py"
        script.write_text(block, encoding="utf-8")
        names = runpy.run_path(str(script), init_globals=names)


def test_blocks_are_found_and_left_out_by_comment() -> None:
    left_out = f"{NOT_RUN} needs data -->\n\n```python\ny = 2\n```"
    page = f"a\n\n```python\nx = 1\n```\n\n{left_out}\n\nb\n```python\nz = 3\n```\n"
    assert blocks(page) == ["\n" * 3 + "x = 1\n", "\n" * 14 + "z = 3\n"]
