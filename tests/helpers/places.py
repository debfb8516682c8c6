"""Where tests find files: the project's root, and data beside it that only some machines have."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
