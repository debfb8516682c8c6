"""One made-up study, one made-up import and their pages for all tests of the report."""

from __future__ import annotations

import pytest
import synthetic_run

from spillover.report import page
from spillover.report.data import ReportData


@pytest.fixture(scope="session")
def study() -> ReportData:
    return synthetic_run.study()


@pytest.fixture(scope="session")
def imported() -> ReportData:
    return synthetic_run.imported()


@pytest.fixture(scope="session")
def study_page(study: ReportData) -> str:
    return page.render(study)


@pytest.fixture(scope="session")
def imported_page(imported: ReportData) -> str:
    return page.render(imported)
