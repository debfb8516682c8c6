"""Pairs of cells: whose direction separates whose misaligned answers, and how alike their mean differences are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Literal, get_args

import numpy as np

from spillover.directions import PRIMARY, SHIFT
from spillover.directions.certainty import p_value, random_cosine
from spillover.directions.labelled import LabelledCell, TableInputs
from spillover.directions.methods import Answers, Method, differences, ratio
from spillover.directions.separation import auc_and_null, auc_interval, cross_scores, familywise, held_out_scores
from spillover.directions.similarity import contrast_groups, estimate_cosines
from spillover.records.base import Cell, Estimate
from spillover.records.directions import (
    DirectionAUC,
    DirectionCosine,
    DirectionGroups,
    DirectionProfile,
    Grouped,
    ProfilePoint,
)
from spillover.stats import Bools, Floats
from spillover.stats.roc import auc

PROFILE_PERMUTATIONS = 200  # of those of the table, for the null at every other layer

FindDirection = Callable[[Bools], Floats]
"""A direction from some of a cell's questions."""


class CrossDomainAUCs:
    """All ordered pairs of cells at every layer; layers are added one after the other."""

    def __init__(self, inputs: TableInputs) -> None:
        self.inputs = inputs
        self.pairs = list(product(range(len(inputs.cells)), repeat=2))
        self.own_X = np.array([a == b for a, b in self.pairs], dtype=bool)
        self.auc_LX: list[Floats] = []
        self.null_LPX: list[Floats] = []

    def add(self, layer_index: int, acts: list[Answers]) -> None:
        """The AUCs at one layer, and their null."""
        most = None if layer_index == self.inputs.table_index else PROFILE_PERMUTATIONS + 1
        found: list[Floats] = []
        for a, b in self.pairs:
            found.append(auc_and_null(self.inputs.labellings[b], self._scores(acts, a, b, most)))
        auc_PX = np.stack(found, axis=1)
        self.auc_LX.append(auc_PX[0])
        self.null_LPX.append(auc_PX[1:])

    def _scores(self, acts: list[Answers], a: int, b: int, most: int | None) -> Floats:
        labellings = self.inputs.labellings
        return cross_scores(labellings[a], acts[a].acts_NLD[:, 0], labellings[b], acts[b].acts_NLD[:, 0], most)

    def records(self) -> list[DirectionAUC]:
        """At the table's layer: the mean difference, then the other methods."""
        inputs, acts = self.inputs, self.inputs.table_answers
        auc_X, null_PX = self.auc_LX[inputs.table_index], self.null_LPX[inputs.table_index]
        p_X = p_value(np.abs(auc_X - 0.5), np.abs(null_PX - 0.5).T)
        family_X = np.ones(len(self.pairs))
        for part_X in (self.own_X, ~self.own_X):
            if part_X.any():
                family_X[part_X] = familywise(auc_X[part_X], null_PX[:, part_X])
        low_X, high_X = np.percentile(null_PX, inputs.setting.tail, axis=0)
        rows: list[DirectionAUC] = []
        for x, (a, b) in enumerate(self.pairs):
            layers = zip(inputs.layers, self.auc_LX, strict=True)
            null = {"null_low": low_X[x], "null_high": high_X[x], "p": p_X[x], "p_family": family_X[x]}
            profile = tuple((layer, round(float(auc_Y[x]), 4)) for layer, auc_Y in layers)
            rows.append(self._record(PRIMARY, a, b, self._scores(acts, a, b, 1)[0], profile=profile, **null))
        for name, method in inputs.setting.methods.items():
            if name != PRIMARY:
                rows += self._of_other_method(name, [_of_answers(method, one) for one in acts])
        if inputs.setting.shifts:
            rows += self._of_other_method(SHIFT, [self._of_shift(cell) for cell in inputs.cells])
        return rows

    def _of_other_method(self, name: str, find: list[FindDirection]) -> list[DirectionAUC]:
        rows: list[DirectionAUC] = []
        for a, b in self.pairs:
            theme_Q = self.inputs.labelled.theme_X[self.inputs.cells[a].answers.asked_Q]
            b_ND = self.inputs.table_answers[b].acts_NLD[:, 0]
            rows.append(
                self._record(name, a, b, held_out_scores(find[a], theme_Q, b_ND, self.inputs.labellings[b].theme_N))
            )
        return rows

    def _of_shift(self, cell: LabelledCell) -> FindDirection:
        """By which of the labelled questions are kept; questions without labels go with their theme."""
        inputs = self.inputs
        theme_Q, theme_N = inputs.labelled.theme_X[cell.answers.asked_Q], inputs.labelled.theme_X[cell.asked_N]
        return _cached(lambda kept_Q: inputs.shifted(cell, inputs.table_index, ~np.isin(theme_N, theme_Q[~kept_Q])))

    def _record(self, method: str, a: int, b: int, scores_N: Floats, **more: Any) -> DirectionAUC:
        inputs, onto = self.inputs, self.inputs.cells[b].answers
        auc_Q = inputs.labellings[b].opposed.auc_by_question(scores_N, onto.misaligned_N)
        low, high = auc_interval(auc_Q, inputs.setting.confidence)
        return DirectionAUC(
            cell=inputs.cells[a].cell,
            onto=inputs.cells[b].cell,
            method=method,
            layer=inputs.layer,
            misaligned=onto.misaligned,
            aligned=onto.aligned,
            questions=onto.questions,
            auc=float(auc_Q.mean()),
            low=low,
            high=high,
            pooled=auc(scores_N, onto.misaligned_N),
            **inputs.shared_fields,
            **more,
        )

    def profiles(self) -> list[DirectionProfile]:
        """The mean over cells by layer, of own answers and of others'."""
        rows: list[DirectionProfile] = []
        both: tuple[tuple[Literal["own", "others"], Bools], ...] = (("own", self.own_X), ("others", ~self.own_X))
        for onto, part_X in both:
            if part_X.any():
                points = tuple(self._point(layer_index, part_X) for layer_index in range(len(self.inputs.layers)))
                pairs = int(part_X.sum())
                fields = self.inputs.recipe_fields | self.inputs.shared_fields
                rows.append(DirectionProfile(onto=onto, pairs=pairs, points=points, **fields))
        return rows

    def _point(self, layer_index: int, part_X: Bools) -> ProfilePoint:
        auc_X = self.auc_LX[layer_index][part_X]
        low, high = np.percentile(self.null_LPX[layer_index][:, part_X].mean(1), self.inputs.setting.tail)
        values = {"mean": auc_X.mean(), "smallest": auc_X.min(), "largest": auc_X.max()}
        values |= {"null_low": low, "null_high": high}
        rounded = {name: round(float(value), 4) for name, value in values.items()}
        return ProfilePoint(layer=self.inputs.layers[layer_index], **rounded)


def _of_answers(method: Method, acts: Answers) -> FindDirection:
    return _cached(lambda kept_Q: method(acts.of_questions(kept_Q))[0])


def _cached(find: FindDirection) -> FindDirection:
    """The same, asked once for each choice of questions."""
    found: dict[bytes, Floats] = {}

    def find_once(kept_Q: Bools) -> Floats:
        key = kept_Q.tobytes()
        if key not in found:
            found[key] = find(kept_Q)
        return found[key]

    return find_once


def cosines(inputs: TableInputs, cosine_LCC: list[Floats]) -> list[DirectionCosine]:
    """Each pair once; `cosine_LCC` for the profiles."""
    d = [differences(one)[:, 0] for one in inputs.table_answers]
    cell_R = np.repeat(np.arange(len(d)), [len(one) for one in d])
    asked_R = np.concatenate([cell.answers.asked_Q for cell in inputs.cells])
    setting, d_RD = inputs.setting, np.concatenate(d)
    rng = setting.rng("cosines", inputs.labelled.source, inputs.reader)
    found = estimate_cosines(d_RD, cell_R, asked_R, setting.confidence, setting.config.permutations, rng)
    upper = np.triu_indices(len(d), 1)
    seen_X, null_PX = found.cosine_CC[upper], _null_cosines(inputs, inputs.table_answers)[:, upper[0], upper[1]]
    p_X, family_X = _cosine_p_values(seen_X, null_PX)
    low_X, high_X = np.percentile(null_PX, setting.tail, axis=0)
    bound = random_cosine(d_RD.shape[1], setting.confidence)
    rows: list[DirectionCosine] = []
    for x, (a, b) in enumerate(zip(*upper, strict=True)):
        corrected = float(found.corrected_CC[a, b])
        layers = zip(inputs.layers, cosine_LCC, strict=True)
        rows.append(
            DirectionCosine(
                cell=inputs.cells[a].cell,
                other=inputs.cells[b].cell,
                layer=inputs.layer,
                questions=len(np.unique(asked_R[(cell_R == a) | (cell_R == b)])),
                cosine=float(seen_X[x]),
                low=float(found.low_CC[a, b]),
                high=float(found.high_CC[a, b]),
                corrected=None if np.isnan(corrected) else corrected,
                null_low=float(low_X[x]),
                null_high=float(high_X[x]),
                p=float(p_X[x]),
                p_family=float(family_X[x]),
                random=bound,
                profile=tuple((layer, round(float(one_CC[a, b]), 4)) for layer, one_CC in layers),
                **inputs.shared_fields,
            )
        )
    return rows


def _null_cosines(inputs: TableInputs, acts: list[Answers]) -> Floats:
    """cosine_PCC of mean differences of permuted labels."""
    v_CPD = np.stack([s.weights_PN[1:] @ one.acts_NLD[:, 0] for s, one in zip(inputs.labellings, acts, strict=True)])
    v_CPD = ratio(v_CPD, np.linalg.norm(v_CPD, axis=2, keepdims=True))
    v_PCD = v_CPD.swapaxes(0, 1)
    return v_PCD @ v_PCD.swapaxes(1, 2)


def _cosine_p_values(seen_X: Floats, null_PX: Floats) -> tuple[Floats, Floats]:
    """Two-sided p of each cosine, and of the largest standardised one of all."""
    spread_X = np.sqrt((null_PX**2).mean(0))
    largest_P = ratio(np.abs(null_PX), spread_X).max(1)
    family_XP = np.broadcast_to(largest_P, (len(seen_X), len(largest_P)))
    return p_value(np.abs(seen_X), np.abs(null_PX).T), p_value(ratio(np.abs(seen_X), spread_X), family_XP)


def groups(inputs: TableInputs, cosine_CC: Floats, group_of: Callable[[Cell, Grouped], str]) -> list[DirectionGroups]:
    """Whether domains of one class, or of one stealth, have more alike directions."""
    rows: list[DirectionGroups] = []
    for grouped in get_args(Grouped):
        names = [group_of(cell.cell, grouped) for cell in inputs.cells]
        group_C = np.array([sorted(set(names)).index(name) for name in names], dtype=np.int64)
        rng = inputs.setting.rng("groups", grouped, inputs.labelled.source, inputs.reader)
        seen = contrast_groups(cosine_CC, group_C, inputs.setting.config.permutations, rng)
        if seen:
            rows.append(
                DirectionGroups(
                    grouped=grouped,
                    layer=inputs.layer,
                    domains=len(names),
                    within=seen.within,
                    between=seen.between,
                    difference=Estimate(value=seen.within - seen.between, low=seen.low, high=seen.high),
                    p=seen.p,
                    **inputs.recipe_fields,
                    **inputs.shared_fields,
                )
            )
    return rows
