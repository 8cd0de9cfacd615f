"""Generated raw folders that several tests of this room read, and never change."""

from pathlib import Path

import pytest
from tests.reference.ntu_files import make_ntu_folder


@pytest.fixture(scope="session")
def ntu_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 60 short `.skeleton` files, three of them without anybody."""
    folder = tmp_path_factory.mktemp("ntu") / "raw"
    make_ntu_folder(folder, count=60, frames=14, shortest=5)
    return folder
