"""The folder of data sets that the tests here read."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_folder import built

from spillover.data.release.archive import write_new
from spillover.data.release.dataset import FACTS, DatasetFacts, facts_file


@pytest.fixture
def facts() -> DatasetFacts:
    return built()[0]


@pytest.fixture
def files() -> dict[str, bytes]:
    return built()[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made, content = built()
    write_new({**content, FACTS: facts_file(made)}, tmp_path / "data")
    return tmp_path / "data"
