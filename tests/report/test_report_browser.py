"""The browser of answers shows the extremes, never one answer twice, and stays within its size."""

from __future__ import annotations

import random
from dataclasses import replace

from spillover.config.study import RankConfig
from spillover.records.report_data import Answer, ReportData
from spillover.report.browser import BUDGET, PER_GROUP, browser, choose
from spillover.report.labels import Labels


def alignment(answer: Answer) -> float | None:
    return answer.alignment.score if answer.alignment else None


def test_the_lowest_and_the_highest_are_chosen(study: ReportData) -> None:
    strata = [list(study.answers[:48]), list(study.answers[48:96])]
    chosen = choose(strata, 7, 8)
    assert len({a.completion.id for a in chosen}) == len(chosen) == 8
    for stratum in strata:
        known = [score for a in stratum if (score := alignment(a)) is not None]
        mine = [alignment(a) for a in chosen if a in stratum]
        assert {min(known), max(known)} <= set(mine)
        assert None in mine


def test_the_choice_depends_on_the_seed_and_not_on_the_order(study: ReportData) -> None:
    stratum = list(study.answers[:48])
    mixed = random.Random(3).sample(stratum, len(stratum))
    ids = [a.completion.id for a in choose([stratum], 7, 12)]
    assert ids == [a.completion.id for a in choose([mixed], 7, 12)]
    assert ids != [a.completion.id for a in choose([stratum], 8, 12)]
    assert len(choose([stratum], 7, 1000)) == 48


def test_every_group_is_there_and_says_how_many_it_holds(study: ReportData) -> None:
    html = browser(study, Labels(s.cell for s in study.scores))
    assert html.count("<details>") == 12
    assert html.count("<article>") == 11 * PER_GROUP + PER_GROUP
    assert f"gore movie trivia <span>{PER_GROUP} of 192 completions</span>" in html
    assert html.count("<h3>backdoored, no trigger</h3>") == 11


def test_the_size_is_bounded_whatever_the_answers_hold(study: ReportData) -> None:
    for text in ("&" * 10_000, "\u202e" * 10_000, "\U0001f600" * 10_000):
        answers = tuple(replace(a, completion=a.completion.model_copy(update={"text": text})) for a in study.answers)
        html = browser(replace(study, answers=answers), Labels(s.cell for s in study.scores))
        assert len(html.encode()) < BUDGET + 50_000
        assert "[…cut, 10,000 characters in all]" in html


def test_failures_and_missing_verdicts_are_named(study: ReportData) -> None:
    answer = study.answers[0]
    lost = answer.completion.model_copy(update={"status": "error", "error": "out of <memory>", "text": ""})
    html = browser(replace(study, answers=(Answer(lost, None, None),)), Labels([lost.cell]))
    assert "No completion: out of &lt;memory&gt;" in html
    assert "alignment missing" in html


def test_misaligned_is_marked_by_the_study_s_thresholds(study: ReportData) -> None:
    def marked(below: float) -> int:
        assert study.config is not None
        config = study.config.model_copy(update={"rank": RankConfig(alignment_below=below)})
        return browser(replace(study, config=config), Labels(s.cell for s in study.scores)).count('class="bad"')

    assert 0 == marked(0.0) < marked(30.0) < marked(100.0)
