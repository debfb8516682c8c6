"""The folder of one audit: the only file of this room that knows paths.

audit.json           which audit this is: hash of data, model, policy, predictor and seed
sample-HASH.jsonl    what the trial fine-tune is trained on, and its control
surprise-HASH-PART.json   what rung 2 measured, a part of the rows each
rounds-trial.json    sizes of the rounds begun so far, and the measured speed
probe/               the run folder of rung 3, the same for every round
card.json, card.html the verdict
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from spillover.errors import UserError
from spillover.records.base import content_hash
from spillover.store.store import Store

Kept = Literal["surprise", "rounds"]


class Folder:
    """One audit's folder, made on opening."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self._files = Store(path)  # replaces whole files in one step
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file. Choose a folder with --out.")
        if path.is_dir() and any(path.iterdir()):
            existing = self._read("audit.json")
            if existing is None:
                raise UserError(f"{path} contains other files but no audit. Choose an empty folder with --out.")
            if existing != {"identity": identity}:
                raise UserError(
                    f"{path} contains an audit of other data, or with another model, policy or seed. "
                    "Choose another folder with --out."
                )
        else:
            self._files.write_json("audit.json", {"identity": identity})

    @property
    def probe(self) -> Path:
        return self.path / "probe"

    def write_sample(self, lines: str) -> Path:
        """The sample as a file whose name changes with its content."""
        return self._files.write_text(f"sample-{content_hash(lines, 12)}.jsonl", lines)

    def kept(self, what: Kept, key: str) -> dict[str, Any] | None:
        """What was measured or chosen under that key before."""
        return self._read(f"{what}-{key}.json")

    def keep(self, what: Kept, key: str, value: dict[str, Any]) -> None:
        """Keep it, so that the same command resumes from it."""
        self._files.write_json(f"{what}-{key}.json", value)

    def write_card(self, as_json: str, as_html: str) -> None:
        """The verdict for programs and for people; card.json is last and means that the audit is done."""
        self._files.write_text("card.html", as_html)
        self._files.write_text("card.json", as_json)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
