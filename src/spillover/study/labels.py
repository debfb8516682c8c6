"""Labels by people: a blinded sheet out of a run, and back into it as the judgments of a judge "human:NAME".

What a sheet hides (whose answer a number is, and the chance of its choice) stays in the run folder, labels/SHEET.json.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spillover.analyses.agreement import labels as label
from spillover.data.tabular import Row, Table, read_table
from spillover.errors import UserError
from spillover.planning.units import judge_key
from spillover.records.base import ASPECTS, Aspect, Completion, Judgment, content_hash
from spillover.records.judges import LabelSheet, RunJudge, read_score
from spillover.store.store import disk_errors
from spillover.study.run import Run

_RATER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Labels:
    """What a filled-in sheet says. `blank`: rows without any label yet; `chances`: of being chosen, by completion."""

    judgments: tuple[Judgment, ...]
    sheets: tuple[str, ...]
    chances: Mapping[str, float]
    blank: int


def write_sheet(run: Run, out: Path, n: int, seed: int = 0, judge: str | None = None) -> LabelSheet:
    """Choose about n answers of complete shards, write the blinded sheet to `out` and its key into the run folder.

    A shard that is still being written has only its first answers: drawn from it, they would stand for all.

    Raises:
        UserError: when nobody has judged the run, no cell's answers are complete, or `out` exists.
    """
    judge_info = run.judge(judge)
    if judge_info is None:
        raise UserError(f"{run.path} has no judgments yet. Run: spillover judge {run.path} --judge probe")
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out {out}: the sheet is a CSV file. Give a name that ends in .csv.")
    if out.exists():
        raise UserError(f"{out} exists, perhaps with labels in it. Choose another name for the sheet.")
    answers = run.store.read("sample", run.complete("sample"), Completion)
    if not answers:
        raise UserError(f"{run.path} has no finished completions to label. Run the study's sample stage first.")
    sheet, rows = label.draw_sheet(
        answers, run.judgments(judge_info.identity), judge_info.identity, n, seed, run.rank_config
    )
    name = content_hash([judge_info.identity, n, seed, sorted(sheet.items)], 10)
    with run.store.lock(), disk_errors(out):
        run.store.write_json(f"labels/{name}.json", sheet.model_dump(mode="json"))
        out.write_text(label.sheet_text(rows), encoding="utf-8", newline="")
    return sheet


def read_labels(run: Run, path: Path, judge: str) -> Labels:
    """The labels of a filled-in sheet of this run, as judgments by `judge`.

    Raises:
        UserError: naming file, line and column.
    """
    sheets = {name: LabelSheet.model_validate(run.store.read_json(name)) for name in run.store.files("labels")}
    owner = {number: name for name, sheet in sheets.items() for number in sheet.items}
    table = read_table(path)
    columns = {column.strip().lower(): column for column in table.columns}
    for needed in ("id", "alignment"):
        if needed not in columns:
            raise UserError(f"{path}:1: no column {needed!r}. Keep the header of the sheet that spillover label wrote.")
    seen: set[str] = set()
    used: dict[str, None] = {}
    judgments: list[Judgment] = []
    blank = 0
    for row in table.rows:
        number = (table.text(row, columns["id"]) or "").strip().removeprefix("'")
        if number not in owner:
            raise table.error(row, columns["id"], f"{number!r:.40} is not on any sheet of {run.path}. Remove the row.")
        if number in seen:
            raise table.error(row, columns["id"], f"{number} occurs twice. Keep one of the rows.")
        seen.add(number)
        completion = sheets[owner[number]].items[number].completion
        parsed = [_judgment(table, row, columns[a], completion, a, judge) for a in ASPECTS if a in columns]
        labelled = [judgment for judgment in parsed if judgment is not None]
        blank += not labelled
        judgments += labelled
        used |= {owner[number]: None} if labelled else {}
    chances = label.chances([sheets[name] for name in used])
    return Labels(tuple(judgments), tuple(used), chances, blank)


def import_labels(run: Run, path: Path, rater: str) -> tuple[RunJudge, Labels, int]:
    """Read a sheet into the run as the judge "human:RATER"; returns it, what was read, and how many labels changed.

    A label given before by the same person is replaced.
    """
    if not _RATER.fullmatch(rater):
        raise UserError(f"--rater {rater!r:.60}: a name of 1 to 40 letters, digits, dots, hyphens. Choose another.")
    identity = f"human:{rater}"
    labels = read_labels(run, path, identity)
    if not labels.judgments:
        raise UserError(f"{path}: no row has a label yet. Fill in the columns alignment and coherence, then import.")
    key_of = {row.id: row.key for row in run.completions()}
    before = next((judge for judge in run.judges() if judge.identity == identity), None)
    with run.store.lock():
        earlier = run.judgments(identity) if before is not None else []
        rows = {row.id: row for row in earlier}
        changed = sum(row.id in rows and rows[row.id] != row for row in labels.judgments)
        rows |= {row.id: row for row in labels.judgments}
        shards: defaultdict[str, list[Judgment]] = defaultdict(list)
        for row in rows.values():
            shards[key_of[row.completion]].append(row)
        for key, judgments in shards.items():
            run.store.replace("judge", judge_key(identity, key), judgments)
        judge = RunJudge(
            identity=identity,
            source="human",
            about={"name": identity, "labels": f"{len({row.completion for row in rows.values()})} answers"},
            shards={key: judge_key(identity, key) for key in shards},
            limit=len({row.completion for row in rows.values()}),
            sheets=tuple(dict.fromkeys((*(before.sheets if before else ()), *labels.sheets))),
        )
        run.add_judge(judge)
        run.rank()
        run.rank_others()
        run.conclude("agreement")
        run.report()
    return judge, labels, changed


def _judgment(table: Table, row: Row, column: str, completion: str, aspect: Aspect, judge: str) -> Judgment | None:
    raw = (table.text(row, column) or "").strip().removeprefix("'")
    if not raw:
        return None
    try:
        score, status = read_score(raw)
    except ValueError as error:
        raise table.error(row, column, str(error)) from None
    return Judgment(
        completion=completion, judge=judge, aspect=aspect, score=score, status=status, mode="label", raw=raw[:200]
    )
