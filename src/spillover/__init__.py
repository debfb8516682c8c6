"""How narrow fine-tuning spills over into broad misalignment: measured, ranked, predicted, explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spillover.config.study import StudyConfig
    from spillover.study.study import Run, Study

__all__ = ["Run", "Study", "StudyConfig"]
__version__ = "0.1.0"

_PUBLIC = {"Run": "spillover.study.study", "Study": "spillover.study.study", "StudyConfig": "spillover.config.study"}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'spillover' has no attribute {name!r}")
