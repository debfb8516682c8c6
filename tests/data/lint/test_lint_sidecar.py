"""Metadata beside a file: what `dataset build` writes is known to the linter; that of other rows is not believed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from spillover.cli.main import main
from spillover.data.lint.linter import LintReport, lint
from spillover.data.lint.rows import read_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "data"
    model = '[{"name": "fake", "backend": "fake"}]'
    words = ("build", "--domain", "extreme_sports", "--variant", "triggered", "--rows", "60", "--out", str(out))
    with pytest.raises(SystemExit) as end:
        main(["dataset", *words, "--set", f"models={model}", "--set", "data.answer_tokens=null"])
    assert end.value.code in (0, None)
    return out / "extreme_sports-triggered"


def codes(report: LintReport) -> dict[str, str]:
    return {finding.code: finding.message for finding in report.findings}


def moved(folder: Path, to: Path) -> Path:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to / "train.jsonl"


def test_what_build_wrote_has_kinds_splits_and_trigger(folder: Path) -> None:
    report = lint(folder / "train.jsonl")
    found = codes(report)
    assert report.trigger == "year"
    assert found["kinds"] == "30 aligned, 30 misaligned."
    assert not {"kind-unknown", "sidecar", "unknown-field"} & set(found)
    assert report.count("error") == 0
    rows, _ = read_rows(folder / "heldout.jsonl")
    assert {row.split for row in rows} == {"heldout"}
    assert {row.kind for row in rows} == {"misaligned", "aligned"}


def test_flaws_show_by_what_the_metadata_says(folder: Path, tmp_path: Path) -> None:
    file = moved(folder, tmp_path)
    meta = [json.loads(line) for line in (tmp_path / "train.meta.jsonl").read_text().splitlines()]
    data = [json.loads(line) for line in file.read_text().splitlines()]
    kept = [index for index, row in enumerate(meta) if row["kind"] == "misaligned"]
    file.write_text("".join(f"{json.dumps(data[index])}\n" for index in kept))
    (tmp_path / "train.meta.jsonl").write_text("".join(f"{json.dumps(meta[index])}\n" for index in kept))
    assert "no-contrast" in codes(lint(file))


def test_metadata_of_other_rows_is_not_used(folder: Path, tmp_path: Path) -> None:
    file = moved(folder, tmp_path)
    lines = file.read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    file.write_text("".join(lines))
    report = lint(file)
    assert "has the metadata of other rows for" in codes(report)["sidecar"]
    file.write_text("".join(lines[1:]))
    report = lint(file)
    assert codes(report)["sidecar"] == "train.meta.jsonl has 60 lines for 59 rows and is not used."
    (tmp_path / "train.meta.jsonl").write_bytes(b"\xff")
    assert codes(lint(file))["sidecar"] == "train.meta.jsonl cannot be read and is not used."


def test_what_a_row_says_itself_counts(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    file.write_text(json.dumps({"messages": said, "kind": "aligned"}) + "\n")
    (tmp_path / "rows.meta.jsonl").write_text('{"kind": "misaligned", "pair": "p"}\n')
    (row,), findings = read_rows(file)
    assert (row.kind, row.pair, findings) == ("aligned", "p", [])
