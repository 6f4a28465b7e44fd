from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Five pictures of different colours."""
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (40, 30), (50 * number, 90, 200 - 30 * number)).save(
            folder / f"{number}.png"
        )
    return folder
