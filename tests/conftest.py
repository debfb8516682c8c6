"""One thread for numerics in tests: tiny tensors gain nothing from more, and lose much beside a busy process.

No deadline for Hypothesis: how long a case takes beside a busy process says nothing of the code.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from spillover.records.report_data import ReportData

settings.register_profile("spillover", deadline=None)
settings.load_profile("spillover")

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def study() -> ReportData:
    """One made-up study for all tests of the report."""
    import synthetic_run

    return synthetic_run.study()


@pytest.fixture(scope="session")
def imported() -> ReportData:
    """One made-up import."""
    import synthetic_run

    return synthetic_run.imported()


@pytest.fixture(scope="session")
def study_page(study: ReportData) -> str:
    from spillover.study import page

    return page.render(study)


@pytest.fixture(scope="session")
def imported_page(imported: ReportData) -> str:
    from spillover.study import page

    return page.render(imported)
