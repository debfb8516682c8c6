"""What holds for every executor, and what is said when one is not installed."""

from __future__ import annotations

import sys

import pytest

from spillover.errors import MissingExtra
from spillover.execution import EXECUTORS


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "spillover.execution.ray", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'spillover\[ray\]'"):
        EXECUTORS.load("ray")
    monkeypatch.delitem(sys.modules, "spillover.execution.ray", raising=False)
