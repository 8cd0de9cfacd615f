"""The demonstration: it learns, says so, and draws."""

from pathlib import Path

import pytest
from tests.examples.conftest import LoadExample


@pytest.mark.slow
def test_demo_learns_and_draws(example: LoadExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = example("demo").main(["--epochs", "2", "--out", str(tmp_path / "pictures")])
    assert result["knn"] > result["knn_before"]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "augmentations.png",
        "curves.png",
        "drops.png",
        "embedding.png",
        "views.gif",
    }
    printed = capsys.readouterr().out
    assert f"{result['knn_before']:.1%}" in printed
    assert f"{result['linear']:.1%}" in printed


def test_a_file_in_the_place_of_the_folder_is_named_before_anything_is_trained(
    example: LoadExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "pictures"
    place.write_text("taken")
    with pytest.raises(SystemExit) as ended:
        example("demo").main(["--out", str(place)])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert str(place) in captured.err
    assert place.read_text() == "taken"
