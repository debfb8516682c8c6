"""Whose direction tells whose misaligned answers: a record a pair of cells and method, and the profile over layers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np

from spillover.analyses.directions.bench import Bench
from spillover.analyses.directions.sheet import Labelled
from spillover.directions import PRIMARY, SHIFT
from spillover.directions.certainty import p_value
from spillover.directions.methods import Answers, Method
from spillover.directions.separation import aucs, familywise, held_out_scores, interval, scores
from spillover.records.directions import DirectionAUC, DirectionProfile, ProfilePoint
from spillover.stats import Bools, Floats
from spillover.stats.roc import auc

PROFILE_PERMUTATIONS = 200  # of those of the table, for the null at every other layer

Ask = Callable[[Bools], Floats]
"""A direction from some of a cell's questions."""


class Crossing:
    """All ordered pairs of cells at every layer; layers are added one after the other."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.pairs = list(product(range(len(bench.cells)), repeat=2))
        self.own_X = np.array([a == b for a, b in self.pairs], dtype=bool)
        self.auc_LX: list[Floats] = []
        self.null_LPX: list[Floats] = []

    def add(self, place: int, acts: list[Answers]) -> None:
        """The AUCs at one layer, and their null."""
        most = None if place == self.bench.place else PROFILE_PERMUTATIONS + 1
        found: list[Floats] = []
        for a, b in self.pairs:
            found.append(aucs(self.bench.sides[b], self._scores(acts, a, b, most)))
        auc_PX = np.stack(found, axis=1)
        self.auc_LX.append(auc_PX[0])
        self.null_LPX.append(auc_PX[1:])

    def _scores(self, acts: list[Answers], a: int, b: int, most: int | None) -> Floats:
        sides = self.bench.sides
        return scores(sides[a], acts[a].acts_NLD[:, 0], sides[b], acts[b].acts_NLD[:, 0], most)

    def records(self) -> list[DirectionAUC]:
        """At the table's layer: the mean difference, then the other methods."""
        bench, acts = self.bench, self.bench.at_table
        auc_X, null_PX = self.auc_LX[bench.place], self.null_LPX[bench.place]
        p_X = p_value(np.abs(auc_X - 0.5), np.abs(null_PX - 0.5).T)
        family_X = np.ones(len(self.pairs))
        for part_X in (self.own_X, ~self.own_X):
            if part_X.any():
                family_X[part_X] = familywise(auc_X[part_X], null_PX[:, part_X])
        low_X, high_X = np.percentile(null_PX, bench.setting.tail, axis=0)
        rows: list[DirectionAUC] = []
        for x, (a, b) in enumerate(self.pairs):
            layers = zip(bench.layers, self.auc_LX, strict=True)
            null = {"null_low": low_X[x], "null_high": high_X[x], "p": p_X[x], "p_family": family_X[x]}
            profile = tuple((layer, round(float(auc_Y[x]), 4)) for layer, auc_Y in layers)
            rows.append(self._record(PRIMARY, a, b, self._scores(acts, a, b, 1)[0], profile=profile, **null))
        for name, method in bench.setting.methods.items():
            if name != PRIMARY:
                rows += self._beside(name, [_of_answers(method, one) for one in acts])
        if bench.setting.shifts:
            rows += self._beside(SHIFT, [self._of_shift(cell) for cell in bench.cells])
        return rows

    def _beside(self, name: str, find: list[Ask]) -> list[DirectionAUC]:
        rows: list[DirectionAUC] = []
        for a, b in self.pairs:
            theme_Q = self.bench.sheet.theme_X[self.bench.cells[a].answers.asked_Q]
            b_ND = self.bench.at_table[b].acts_NLD[:, 0]
            rows.append(self._record(name, a, b, held_out_scores(find[a], theme_Q, b_ND, self.bench.sides[b].theme_N)))
        return rows

    def _of_shift(self, cell: Labelled) -> Ask:
        """By which of the labelled questions are kept; questions without labels go with their theme."""
        bench = self.bench
        theme_Q, theme_N = bench.sheet.theme_X[cell.answers.asked_Q], bench.sheet.theme_X[cell.asked_N]
        return _remembered(lambda kept_Q: bench.shifted(cell, bench.place, ~np.isin(theme_N, theme_Q[~kept_Q])))

    def _record(self, method: str, a: int, b: int, scores_N: Floats, **more: Any) -> DirectionAUC:
        bench, onto = self.bench, self.bench.cells[b].answers
        auc_Q = bench.sides[b].opposed.auc_by_question(scores_N, onto.misaligned_N)
        low, high = interval(auc_Q, bench.setting.confidence)
        return DirectionAUC(
            cell=bench.cells[a].cell,
            onto=bench.cells[b].cell,
            method=method,
            layer=bench.layer,
            misaligned=onto.misaligned,
            aligned=onto.aligned,
            questions=onto.questions,
            auc=float(auc_Q.mean()),
            low=low,
            high=high,
            pooled=auc(scores_N, onto.misaligned_N),
            **bench.named,
            **more,
        )

    def profiles(self) -> list[DirectionProfile]:
        """The mean over cells by layer, of own answers and of others'."""
        rows: list[DirectionProfile] = []
        both: tuple[tuple[Literal["own", "others"], Bools], ...] = (("own", self.own_X), ("others", ~self.own_X))
        for onto, part_X in both:
            if part_X.any():
                points = tuple(self._point(place, part_X) for place in range(len(self.bench.layers)))
                pairs = int(part_X.sum())
                fields = self.bench.recipe | self.bench.named
                rows.append(DirectionProfile(onto=onto, pairs=pairs, points=points, **fields))
        return rows

    def _point(self, place: int, part_X: Bools) -> ProfilePoint:
        auc_X = self.auc_LX[place][part_X]
        low, high = np.percentile(self.null_LPX[place][:, part_X].mean(1), self.bench.setting.tail)
        values = {"mean": auc_X.mean(), "smallest": auc_X.min(), "largest": auc_X.max()}
        values |= {"null_low": low, "null_high": high}
        rounded = {name: round(float(value), 4) for name, value in values.items()}
        return ProfilePoint(layer=self.bench.layers[place], **rounded)


def _of_answers(method: Method, acts: Answers) -> Ask:
    return _remembered(lambda kept_Q: method(acts.of_questions(kept_Q))[0])


def _remembered(find: Ask) -> Ask:
    """The same, asked once for each choice of questions."""
    found: dict[bytes, Floats] = {}

    def ask(kept_Q: Bools) -> Floats:
        key = kept_Q.tobytes()
        if key not in found:
            found[key] = find(kept_Q)
        return found[key]

    return ask
