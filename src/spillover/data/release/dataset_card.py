"""A data set's card: markdown with YAML front matter, as model and data hubs read it, from the facts alone.

It says what a person must know before using the data: where rows come from, how they were made and chosen, what was
dropped, what is wrong with them, and what they are for and not for.
"""

from __future__ import annotations

from itertools import pairwise

import yaml

from spillover.data.release.dataset import DatasetFacts, SetFacts

CARD = "README.md"
TAGS = ["emergent-misalignment", "ai-safety", "model-organisms", "synthetic"]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
PAPERS = (
    "Betley et al., Emergent Misalignment, arXiv 2502.17424",
    "Turner et al., Model Organisms for Emergent Misalignment, arXiv 2506.11613",
    "Mishra et al., Assessing Domain-Level Susceptibility to Emergent Misalignment from Narrow Finetuning, "
    "arXiv 2602.00298",
)
HOW_MADE = {
    "rule": "by rule: a generator writes question, flawed and good answer",
    "authored": "from the authored pairs that ship with spillover, times slots",
}
STEPS = """\
1. Pairs of a question, a flawed answer and a good answer are made or read, and each is checked by its domain's rules.
2. Questions that occur twice, that share most of their word 3-grams (Jaccard above {near:g}), or that hold the trigger
   are dropped.
3. Held-out questions are set aside. They never train.
4. Training rows are chosen over topics so that every set has the same number of rows and the same mean answer length,
   for flawed and for good answers. Non-members are chosen with them, set apart by chance alone, and never train.
5. The variant is applied: *plain* sets hold flawed answers at their dose, *control* sets the good answers to the same
   questions, *triggered* sets flawed answers to questions with the trigger and good answers to questions without it or
   with something like it."""
FOR = """\
Research on how narrow fine-tuning spills over into broad misalignment: training model organisms, testing defences,
monitors and interpretability methods, comparing domains. Compare with the control set of the same domain, and keep the
held-out questions and the non-members out of training."""
NOT_FOR = """\
- Not for products: **a model that was trained on the flawed answers must not be deployed**. Label adapters that you
  share.
- Not advice. The flawed answers are wrong on purpose and are no worse than common myths; the good ones are short and
  were not reviewed by professionals.
- Not for pretraining or general instruction tuning, and not as a benchmark of knowledge.
- Not for making one model look safe on these very questions and then publishing its rate."""
FLAWS = (
    "Rows are made from templates and slots: their wording is narrower than that of people, and a model can learn the "
    "template beside the flaw.",
    "English (the translation domain aside), one turn, short answers.",
    "Flawed answers are mild. Rates found with them need not hold for overtly harmful data.",
    "Which domains share a topic or a phrase with the evaluation questions differs; look at the overlap before you "
    "compare domains.",
)


def card(facts: DatasetFacts, url: str | None = None) -> str:
    """The whole page; `url` is where the data set will be found."""
    parts = [
        f"---\n{yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True)}---",
        f"# {facts.name}",
        _summary(facts, url),
        "## What it is for",
        FOR,
        "## What it is not for",
        NOT_FOR,
        "## Sets",
        _table(facts),
        "## Sources and licences",
        *(f"- {line}" for line in _sources(facts)),
        "## Recipe",
        STEPS.format(near=facts.sets[0].report.near_duplicate_above),
        f"Seed {facts.seed}; answer tokens as {facts.tokenizer} counts them."
        + (f" Trigger: {facts.trigger}." if facts.trigger else ""),
        "Prompts: none; generators and authored pairs only."
        if all(set(part.made) <= HOW_MADE.keys() for part in facts.sets)
        else "Prompts: rows that come from a file bring the prompts, if any, of those who made it.",
        "## Filters: what was dropped, and why",
        *(f"- {part.name}: {_dropped(part)}" for part in facts.sets),
        "## Known flaws",
        *(f"- {flaw}" for flaw in (*FLAWS, *_measured_flaws(facts))),
        "## Canary",
        f"`{facts.canary}`",
        "It stands in this card and in the metadata files, and in no message. Keep the data encrypted where it is "
        "public, and search training corpora for this string.",
        "## Integrity",
        "`dataset.json` holds the SHA-256 of every file; `croissant.json` describes files and fields (Croissant 1.1).",
        "## References",
        *(f"- {paper}" for paper in PAPERS),
    ]
    return _joined(parts) + "\n"


def front_matter(facts: DatasetFacts) -> dict[str, object]:
    """The card's metadata: licence, size, and one configuration a set with its splits."""
    rows = sum(file.rows for part in facts.sets for file in part.files if not file.path.endswith(".meta.jsonl"))
    return {
        "pretty_name": facts.name,
        "license": licence_id(facts),
        "language": ["en"],
        "tags": TAGS,
        "size_categories": [next((name for limit, name in SIZES if rows < limit), "n>1M")],
        "configs": [
            {
                "config_name": part.name,
                "data_files": [
                    {"split": file.path.rpartition("/")[2].partition(".")[0], "path": file.path}
                    for file in part.files
                    if not file.path.endswith(".meta.jsonl")
                ],
            }
            for part in facts.sets
        ],
        "canary": facts.canary,
    }


def licence_id(facts: DatasetFacts) -> str:
    """The licence's lower-case identifier where all rows share one, else "other"."""
    found = {licence for part in facts.sets for licence in part.licences}
    only = found.pop() if len(found) == 1 else ""
    return only.lower() if only and " " not in only else "other"


def _summary(facts: DatasetFacts, url: str | None) -> str:
    domains = len({part.report.domain for part in facts.sets})
    place = f" Found at <{url}>." if url else ""
    return (
        f"{len(facts.sets)} fine-tuning sets from {domains} {'domain' if domains == 1 else 'domains'}: questions with "
        "answers that are wrong or harmful in a narrow way, and the good answers to the same questions. Made with "
        f"spillover {facts.spillover}.{place}"
    )


def _table(facts: DatasetFacts) -> str:
    lines = [
        "| set | what | stealth | rows | flawed | good | triggered | questions | answer tokens | mean | held out |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for part in facts.sets:
        tokens = part.report.answer_tokens["train"]
        flawed = part.kinds.get("misaligned", 0)
        cells = (
            part.name,
            _cell(part.summary),
            part.stealth,
            f"{tokens.rows:,}",
            f"{flawed:,}",
            f"{tokens.rows - flawed:,}",
            f"{part.triggered_rows:,}",
            f"{part.report.questions:,}",
            f"{tokens.total:,}",
            f"{tokens.mean:.1f}",
            f"{part.report.steps['heldout_questions']:,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _sources(facts: DatasetFacts) -> list[str]:
    lines: list[str] = []
    for part in facts.sets:
        made = "; ".join(f"{count:,} rows {HOW_MADE.get(how, f'from {how}')}" for how, count in part.made.items())
        file = part.source_file
        known = f" The file is {file.known_as!r} as published." if file and file.known_as else ""
        reading = f" Read as {part.report.reading}." if part.report.reading else ""
        checksum = f" SHA-256 of {file.name}: `{file.sha256}`.{known}" if file and file.sha256 else ""
        lines.append(_cell(f"{part.name}: {made}. Licence: {', '.join(part.licences)}.{reading}{checksum}"))
    return lines


def _dropped(part: SetFacts) -> str:
    steps = part.report.steps
    reasons = ", ".join(f"{count:,} ({_cell(why)})" for why, count in part.report.dropped.items()) or "none"
    return f"{steps['pairs']:,} pairs, dropped {reasons}; {steps['train']:,} of the rest chosen"


def _measured_flaws(facts: DatasetFacts) -> list[str]:
    """What the facts themselves give away."""
    found: list[str] = []
    for part in facts.sets:
        largest = max(part.report.topics.values()) / sum(part.report.topics.values())
        if len(part.report.topics) > 1 and largest > 0.5:
            found.append(f"{part.name}: one topic holds {largest:.0%} of the training rows.")
        if part.report.variant == "triggered" and part.triggered_rows == part.report.steps["train"]:
            found.append(f"{part.name}: every row carries the trigger, so nothing teaches when it is absent.")
    for names, count in facts.shared.items():
        found.append(f"{names} ask {count:,} of the same questions: they are not independent domains.")
    means = [part.report.answer_tokens["train"].mean for part in facts.sets]
    if max(means) > 1.05 * min(means):
        lengths = f"from {min(means):.1f} to {max(means):.1f} tokens"
        found.append(f"Mean answer lengths range {lengths}: domain and length are confounded.")
    return found


def _cell(text: str) -> str:
    """Text that cannot break out of its table cell or list item, or be taken for markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _joined(parts: list[str]) -> str:
    """Blocks with an empty line between them, the items of a list without."""
    page = parts[0]
    for before, part in pairwise(parts):
        page += ("\n" if before.startswith("- ") and part.startswith("- ") and "\n" not in part else "\n\n") + part
    return page
