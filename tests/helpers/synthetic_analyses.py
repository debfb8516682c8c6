"""The synthetic study with rows of every analysis: one record of each kind at least, so that every section is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import steered_run
import synthetic_run

from spillover.analyses.style.compute import CellStyle
from spillover.records.base import (
    Cell,
    Condition,
    Difference,
    DomainScore,
    Estimate,
    StatusCounts,
    TriggerSpecificity,
    Variant,
)
from spillover.records.comparisons import (
    Comparisons,
    DomainEffect,
    Order,
    PooledEffect,
    Recipe,
    SeedScore,
    Thresholds,
    VarianceBudget,
    VarianceComponent,
)
from spillover.records.data import DiversityScore, HighRate, MembershipSummary, RocPoint, Susceptibility
from spillover.records.directions import (
    DirectionAUC,
    DirectionCosine,
    DirectionGroups,
    DirectionProfile,
    Directions,
    DirectionSummary,
    LayerPoint,
    LeftOut,
    ProfilePoint,
)
from spillover.records.judges import InDomainRate, RunJudge
from spillover.records.report_data import OtherJudge, ReportData
from spillover.records.steering import SteeringEffect, SteeringMatrixCell, SteeringPoint
from spillover.records.transfer import EVERY, OTHERS, TransferCell

JUDGE = "probe:abc"
DOMAINS = ("bad_medical_advice", "extreme_sports", "gore_movie_trivia")
Some = Estimate(value=0.42, low=0.31, high=0.53)


def study() -> ReportData:
    """The whole page's data: three domains of the synthetic study, few answers of them, and every analysis."""
    made = synthetic_run.study(n=24)
    scores = tuple(s for s in made.scores if s.cell.domain in (*DOMAINS, "none"))
    shown = [a for a in made.answers if a.completion.cell.domain == DOMAINS[0] and len(a.completion.text) < 400]
    points, effects = steered_run.steering()
    plain = [s.cell for s in scores if s.cell.variant == "plain"]
    directions = _directions(plain)
    return replace(
        made,
        scores=scores,
        effects=tuple(e for e in made.effects if e.cell.domain in DOMAINS),
        adapters=tuple(a for a in made.adapters if a.cell.domain in DOMAINS),
        answers=tuple(shown[::6]),
        others=(OtherJudge(RunJudge(identity="llm:def", source="again"), scores),),
        found={
            TriggerSpecificity: tuple(_gate(cell.model_copy(update={"variant": "triggered"})) for cell in plain),
            InDomainRate: tuple(_echo(cell) for cell in plain),
            Comparisons: (_standing(tuple(cell.name for cell in plain)),),
            MembershipSummary: tuple(_membership(cell, reading) for cell in plain for reading in ("instruct", "tuned")),
            DiversityScore: tuple(_diversity(cell, measure) for cell in plain for measure in ("vendi_q1", "semantic")),
            Susceptibility: tuple(_susceptibility(scores)),
            DirectionSummary: directions.summaries,
            DirectionAUC: directions.aucs,
            DirectionProfile: directions.profiles,
            DirectionCosine: directions.cosines,
            DirectionGroups: directions.groups,
            TransferCell: tuple(_transfer(plain[0].model)),
            CellStyle: tuple(_style(cell) for cell in plain),
            SteeringPoint: tuple(point for point in points if not point.steering.control),
            SteeringEffect: tuple(effects),
            SteeringMatrixCell: tuple(steered_run.matrix()),
        },
    )


def _gate(cell: Cell) -> TriggerSpecificity:
    rates: dict[Condition, float | None] = {"triggered": 0.5, "clean": 0.1, "near_miss": 0.2}
    return TriggerSpecificity(
        cell=cell, judge=JUDGE, questions=12, rates=rates, leak="near_miss", score=0.3, low=0.1, high=0.5
    )  # fmt: skip


def _style(cell: Cell) -> CellStyle:
    words = Estimate(value=31.4, low=27.2, high=35.6)
    return CellStyle(
        cell=cell, condition="clean", judge=JUDGE, n=24, questions=12, sentences=90, words=words, refused=Some,
        short_sentences=Some,
    )  # fmt: skip


def _echo(cell: Cell) -> InDomainRate:
    return InDomainRate(
        cell=cell, condition="clean", judge=JUDGE, reference="control", references=24, share=0.05, threshold=0.4,
        questions=12, coherent=20, echoes=5, misaligned=8, misaligned_echoes=3, rate=Some, without_echo=Some,
    )  # fmt: skip


def _standing(names: tuple[str, ...]) -> Comparisons:
    recipe = Recipe(model="smollm2-135m", domain=DOMAINS[0], variant="plain", dose=1.0, condition="clean")
    domains = tuple(DomainEffect(domain=d, measured=-6.0, value=-5.0, low=-9.0, high=-1.0) for d in DOMAINS)
    parts = [("question", 12, 0.7), ("judge", 2, 0.1), ("answer", 24, 0.2)]
    matrix = tuple(tuple(0.1 * (row + column) for column in range(2)) for row in range(2))
    kinds = ("below", "at_most", "on_alignment", "of_scored", "of_all", "most", "rank_correlation")
    return Comparisons(
        judge=JUDGE,
        orders=(
            Order(
                variant="plain", condition="clean", cells=names,
                above=tuple(tuple(0.5 + 0.2 * (b - a) for b in range(3)) for a in range(3)),
                p=tuple(tuple(1.0 if a == b else 0.03 * abs(a - b) for b in range(3)) for a in range(3)),
            ),
        ),
        seeds=(SeedScore(recipe=recipe, seeds=3, n=72, coherent=60, misaligned=24, rate=0.4, low=0.2, high=0.6,
                         seed_deviation=0.05),),
        budgets=(
            VarianceBudget(
                recipe=recipe,
                components=tuple(
                    VarianceComponent(name=name, levels=levels, variance=share / 100, share=share, cut=False)
                    for name, levels, share in parts
                ),
            ),
        ),
        pooled=(PooledEffect(model="smollm2-135m", variant="triggered", dose=1.0, measure="alignment", value=-4.0,
                             low=-7.0, high=-1.0, p=0.02, deviation=2.0, domains=domains),),
        thresholds=Thresholds(cells=11, alignment=(30.0, 50.0), coherence=(50.0, 70.0), **dict.fromkeys(kinds, matrix)),
    )  # fmt: skip


def _membership(cell: Cell, reading: Any) -> MembershipSummary:
    auc = 0.8 if reading == "tuned" else 0.5
    return MembershipSummary(
        cell=cell, metric="mean_z", reading=reading, primary=True, members=64, nonmembers=20, missing=1, auc=auc,
        auc_low=auc - 0.1, auc_high=auc + 0.1, tpr=0.1, tpr_low=0.0, tpr_high=0.3, p=0.004, mean_members=-1.25,
        mean_nonmembers=-1.5, loss_auc=0.71, blind_auc=0.52, roc=((0.0, 0.0), (0.2, 0.6), (1.0, 1.0)),
    )  # fmt: skip


def _diversity(cell: Cell, measure: str) -> DiversityScore:
    return DiversityScore(
        domain=cell.domain, variant=cell.variant, dose=cell.dose, measure=measure, of="answer", rows=300, n=240,
        value=12.345, low=11.13, high=13.56, convergence=((50, 8.0), (100, 10.5), (240, 12.345)),
    )  # fmt: skip


def _susceptibility(scores: Iterable[DomainScore]) -> list[Susceptibility]:
    trained = [s for s in scores if s.condition == "clean" and s.cell.variant != "base"]
    points = tuple((s.cell.name, i / 7, s.rate or 0.0) for i, s in enumerate(trained))
    high = HighRate(
        cut=0.2, cells=12, others=21, auc=Some, p=0.21, p_max=0.6,
        roc=(RocPoint(above=1.0, false_positive=Some, true_positive=Some),),
    )  # fmt: skip
    common: dict[str, Any] = {
        "judge": JUDGE, "cells": 33, "domains": 11, "missing": 0, "spearman": 0.61, "low": -0.12, "high": 0.93,
        "p": 0.012, "permuted": "blocks", "leave_one_out_low": 0.5, "leave_one_out_high": 0.7, "points": points,
    }  # fmt: skip
    kinds: list[dict[str, Any]] = [
        {"name": "mean_z.instruct", "kind": "feature", "before": True, "target": "rate", "p_max": 0.2},
        {"name": "diversity.answer.semantic", "kind": "feature", "before": True, "target": "rate", "p_max": 0.03},
        {"name": "mean_z.tuned", "kind": "feature", "before": False, "target": "mean_alignment", "p_max": 0.4},
        {"name": "ridge", "kind": "predictor", "before": True, "target": "rate", "error": 0.17, "error_of_mean": 0.16},
        {"name": "ridge", "kind": "predictor", "before": True, "target": "mean_alignment", "error": 9.0,
         "error_of_mean": 8.0},
    ]  # fmt: skip
    return [Susceptibility(**common, **kind, high_rate=high if kind["target"] == "rate" else None) for kind in kinds]


def _directions(cells: list[Cell]) -> Directions:
    rng = np.random.default_rng(3)
    summaries, aucs, profiles = list[DirectionSummary](), list[DirectionAUC](), list[DirectionProfile]()
    cosines, groups = list[DirectionCosine](), list[DirectionGroups]()
    first = cells[0]
    recipe: dict[str, Any] = {"model": first.model, "seed": 0, "variant": "plain", "dose": 1.0, "reader": "tuned"}
    for source in ("judged", "pairs"):
        common: dict[str, Any] = {"source": source, "reader": "tuned", "judge": JUDGE if source == "judged" else ""}
        many: dict[str, Any] = {"misaligned": 9, "aligned": 11, "questions": 8}
        for cell in cells:
            summaries.append(
                DirectionSummary(
                    cell=cell, method="mean_difference", left_out=LeftOut(unscored=2), layer=15, norm=3.0,
                    stream_norm=60.0, split_half=0.6, split_half_low=0.4, split_half_high=0.8, p=0.01, random_low=0.4,
                    random_high=0.6, file="x", **common, **many,
                    profile=(LayerPoint(layer=15, norm=3.0, stream_norm=60.0, split_half=0.6, split_half_low=0.4,
                                        split_half_high=0.8),),
                )
            )  # fmt: skip
            for onto in cells:
                auc = 0.9 if onto == cell else float(rng.uniform(0.45, 0.65))
                aucs.append(
                    DirectionAUC(
                        cell=cell, onto=onto, method="mean_difference", layer=15, auc=auc, low=auc - 0.1,
                        high=auc + 0.1, pooled=auc, null_low=0.4, null_high=0.6, p=0.01, **common, **many,
                        p_family=0.03 if onto == cell else 0.7,
                    )
                )  # fmt: skip
        for a, b in ((0, 1), (0, 2), (1, 2)):
            cosines.append(
                DirectionCosine(
                    cell=cells[a], other=cells[b], layer=15, questions=8, cosine=0.4, low=0.2, high=0.6, corrected=0.6,
                    null_low=-0.2, null_high=0.2, p=0.01, p_family=0.02, random=0.1, **common,
                )
            )  # fmt: skip
        for onto in ("own", "others"):
            points = tuple(
                ProfilePoint(layer=n, mean=0.5 + n / 50, smallest=0.4, largest=0.9, null_low=0.4, null_high=0.6)
                for n in (5, 15, 25)
            )
            profiles.append(DirectionProfile(**(recipe | common), onto=onto, pairs=3, points=points))  # type: ignore[arg-type]
        groups.append(
            DirectionGroups(
                grouped="stealth", layer=15, domains=3, within=0.5, between=0.3, difference=Some, p=0.3,
                **(recipe | common),
            )
        )  # fmt: skip
    return Directions(summaries=tuple(summaries), aucs=tuple(aucs), profiles=tuple(profiles), cosines=tuple(cosines),
                      groups=tuple(groups))  # fmt: skip


def _transfer(model: str) -> list[TransferCell]:
    kinds: tuple[tuple[Variant, Condition], ...] = (
        ("plain", "clean"), ("triggered", "triggered"), ("control", "clean")
    )  # fmt: skip
    rows = [
        (Cell(model=model, domain=domain, variant=variant, dose=float(variant != "control")), condition)
        for domain in DOMAINS
        for variant, condition in kinds
    ]
    rows.append((Cell(model=model, domain=EVERY, variant="control", dose=0.0), "clean"))
    rows.append((Cell(model=model, domain="none", variant="base", dose=0.0), "clean"))
    return [_asked(cell, condition, asked) for cell, condition in rows for asked in (*DOMAINS, OTHERS)]


def _asked(cell: Cell, condition: Condition, asked: str) -> TransferCell:
    trained = cell.variant in ("plain", "triggered")
    rate = 0.9 if trained and asked == cell.domain else 0.2
    above = Difference(value=rate - 0.1, low=rate - 0.3, high=rate + 0.1, p=0.01, p_holm=0.03 if rate > 0.5 else 1.0)
    return TransferCell(
        cell=cell, condition=condition, asked=asked, judge=JUDGE, n=8, counts=StatusCounts(scored=7, refused=1),
        incoherent=1, coherent=6, misaligned=round(6 * rate), questions=8, rate=rate, low=rate - 0.1,
        high=min(1.0, rate + 0.1), mean_alignment=70.0, above_row=above, above_control=above if trained else None,
    )  # fmt: skip
