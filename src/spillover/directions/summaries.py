"""Each cell's directions: their length, stability and chance, and the files that hold them at every layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from spillover.directions import PRIMARY, SHIFT
from spillover.directions.certainty import norm_p, random_directions, random_halves, split_half, split_half_means
from spillover.directions.direction import Direction, Origin, unit
from spillover.directions.labelled import LabelledCell, TableInputs
from spillover.directions.methods import Answers, Method
from spillover.records.directions import DirectionSummary, LayerPoint
from spillover.stats import Floats

OTHER_SPLITS = 20  # of methods besides the mean difference, which are found again in each half
SPREAD = (2.5, 97.5)  # percentiles of the splits


def point(inputs: TableInputs, cell: LabelledCell, layer_index: int, d_QD: Floats) -> LayerPoint:
    """The mean difference at one layer, from the differences of its questions."""
    first_SQ = random_halves(len(d_QD), inputs.setting.config.splits, inputs.setting.rng("halves", cell.cell.name))
    cosine_S = split_half_means(d_QD[:, None], first_SQ)[:, 0]
    low, high = np.percentile(cosine_S, SPREAD)
    return LayerPoint(
        layer=inputs.layers[layer_index],
        norm=round(float(np.linalg.norm(d_QD.mean(0))), 6),
        stream_norm=round(float(cell.stream_norms[inputs.reader][layer_index]), 6),
        split_half=round(float(cosine_S.mean()), 4),
        split_half_low=round(float(low), 4),
        split_half_high=round(float(high), 4),
    )


def summaries(inputs: TableInputs, points: list[list[LayerPoint]]) -> list[DirectionSummary]:
    """Of every cell and method; of cells with too few answers the counts alone."""
    rows = [_summary(inputs, cell, PRIMARY) for cell in inputs.labelled.cells if not cell.enough]
    for i, cell in enumerate(inputs.cells):
        rows += [_primary(inputs, i, points[i])]
        for name, method in inputs.setting.methods.items():
            if name != PRIMARY:
                rows.append(_of_other_method(inputs, cell, inputs.table_answers[i], name, method))
        if inputs.setting.shifts and inputs.reader == "tuned":
            shift_LD = np.stack([inputs.shifted(cell, layer_index) for layer_index in range(len(inputs.layers))])
            rows.append(_summary(inputs, cell, SHIFT, **_write_directions(inputs, cell, SHIFT, shift_LD)))
    return rows


def _primary(inputs: TableInputs, i: int, points: list[LayerPoint]) -> DirectionSummary:
    cell, own, acts = inputs.cells[i], inputs.labellings[i], inputs.table_answers[i]
    rng = inputs.setting.rng("random", inputs.labelled.source, cell.cell.name)
    random_RD = random_directions(acts.acts_NLD.shape[2], inputs.setting.config.permutations, rng)
    auc_R = own.opposed.auc(random_RD @ acts.acts_NLD[:, 0].T, acts.misaligned_N)
    low, high = np.percentile(auc_R, inputs.setting.tail)
    direction_fields = _write_directions(
        inputs, cell, PRIMARY, _at_every_layer(inputs, cell, inputs.setting.methods[PRIMARY])
    )
    return _summary(
        inputs,
        cell,
        PRIMARY,
        p=float(norm_p(acts, own.labels_PN[1:])[0]),
        random_low=float(low),
        random_high=float(high),
        profile=tuple(points),
        **(direction_fields | points[inputs.table_index].model_dump()),
    )


def _of_other_method(
    inputs: TableInputs, cell: LabelledCell, acts: Answers, name: str, method: Method
) -> DirectionSummary:
    first_SQ = random_halves(acts.questions, OTHER_SPLITS, inputs.setting.rng("halves", cell.cell.name))
    cosine_S = split_half(method, acts, first_SQ)[:, 0]
    low, high = np.percentile(cosine_S, SPREAD)
    stability = {"split_half": float(cosine_S.mean()), "split_half_low": float(low), "split_half_high": float(high)}
    return _summary(
        inputs, cell, name, **stability, **_write_directions(inputs, cell, name, _at_every_layer(inputs, cell, method))
    )


def _at_every_layer(inputs: TableInputs, cell: LabelledCell, method: Method) -> Floats:
    return np.concatenate([method(cell.at(inputs.reader, layer_index)) for layer_index in range(len(inputs.layers))])


def _summary(inputs: TableInputs, cell: LabelledCell, method: str, **figures: Any) -> DirectionSummary:
    answers = cell.answers
    return DirectionSummary(
        cell=cell.cell,
        method=method,
        misaligned=answers.misaligned,
        aligned=answers.aligned,
        questions=answers.questions,
        left_out=cell.left_out,
        **inputs.shared_fields,
        **figures,
    )


def _write_directions(inputs: TableInputs, cell: LabelledCell, method: str, found_LD: Floats) -> dict[str, Any]:
    """Write the directions; the summary's fields about them."""
    origin = Origin(
        model=cell.cell.model,
        revision=cell.states.revision,
        cell=cell.cell.name,
        method=method,
        source=inputs.labelled.source,
        reader=inputs.reader,
        seed=inputs.setting.seed,
        study=inputs.setting.study,
    )
    answers, stream_L = cell.answers, cell.stream_norms[inputs.reader]
    norm_L = np.linalg.norm(found_LD, axis=1)
    counts = (answers.misaligned, answers.aligned, answers.questions)
    directions = [
        Direction(unit(v_D), layer, float(norm), float(stream), *counts, origin)
        for v_D, layer, norm, stream in zip(found_LD, inputs.layers, norm_L, stream_L, strict=True)
    ]
    return {
        "layer": inputs.layer,
        "norm": float(norm_L[inputs.table_index]),
        "stream_norm": float(stream_L[inputs.table_index]),
        "file": inputs.setting.write(directions),
    }
