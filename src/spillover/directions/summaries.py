"""Each cell's directions: their length, stability and chance, and the files that hold them at every layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from spillover.directions import PRIMARY, SHIFT
from spillover.directions.certainty import halves, norm_p, random_directions, split_half, split_half_means
from spillover.directions.direction import Direction, Origin, unit
from spillover.directions.labelled import Bench, Labelled
from spillover.directions.methods import Answers, Method
from spillover.records.directions import DirectionSummary, LayerPoint
from spillover.stats import Floats

OTHER_SPLITS = 20  # of methods besides the mean difference, which are found again in each half
SPREAD = (2.5, 97.5)  # percentiles of the splits


def point(bench: Bench, cell: Labelled, place: int, d_QD: Floats) -> LayerPoint:
    """The mean difference at one layer, from the differences of its questions."""
    first_SQ = halves(len(d_QD), bench.setting.config.splits, bench.setting.rng("halves", cell.cell.name))
    cosine_S = split_half_means(d_QD[:, None], first_SQ)[:, 0]
    low, high = np.percentile(cosine_S, SPREAD)
    return LayerPoint(
        layer=bench.layers[place],
        norm=round(float(np.linalg.norm(d_QD.mean(0))), 6),
        stream_norm=round(float(cell.stream_norms[bench.reader][place]), 6),
        split_half=round(float(cosine_S.mean()), 4),
        split_half_low=round(float(low), 4),
        split_half_high=round(float(high), 4),
    )


def summaries(bench: Bench, points: list[list[LayerPoint]]) -> list[DirectionSummary]:
    """Of every cell and method; of cells with too few answers the counts alone."""
    rows = [_counted(bench, cell, PRIMARY) for cell in bench.sheet.cells if not cell.enough]
    for i, cell in enumerate(bench.cells):
        rows += [_primary(bench, i, points[i])]
        for name, method in bench.setting.methods.items():
            if name != PRIMARY:
                rows.append(_beside(bench, cell, bench.at_table[i], name, method))
        if bench.setting.shifts and bench.reader == "tuned":
            shift_LD = np.stack([bench.shifted(cell, place) for place in range(len(bench.layers))])
            rows.append(_counted(bench, cell, SHIFT, **_kept(bench, cell, SHIFT, shift_LD)))
    return rows


def _primary(bench: Bench, i: int, points: list[LayerPoint]) -> DirectionSummary:
    cell, own, acts = bench.cells[i], bench.sides[i], bench.at_table[i]
    rng = bench.setting.rng("random", bench.sheet.source, cell.cell.name)
    random_RD = random_directions(acts.acts_NLD.shape[2], bench.setting.config.permutations, rng)
    auc_R = own.opposed.auc(random_RD @ acts.acts_NLD[:, 0].T, acts.misaligned_N)
    low, high = np.percentile(auc_R, bench.setting.tail)
    kept = _kept(bench, cell, PRIMARY, _at_every_layer(bench, cell, bench.setting.methods[PRIMARY]))
    return _counted(
        bench,
        cell,
        PRIMARY,
        p=float(norm_p(acts, own.labels_PN[1:])[0]),
        random_low=float(low),
        random_high=float(high),
        profile=tuple(points),
        **(kept | points[bench.place].model_dump()),
    )


def _beside(bench: Bench, cell: Labelled, acts: Answers, name: str, method: Method) -> DirectionSummary:
    first_SQ = halves(acts.questions, OTHER_SPLITS, bench.setting.rng("halves", cell.cell.name))
    cosine_S = split_half(method, acts, first_SQ)[:, 0]
    low, high = np.percentile(cosine_S, SPREAD)
    stability = {"split_half": float(cosine_S.mean()), "split_half_low": float(low), "split_half_high": float(high)}
    return _counted(bench, cell, name, **stability, **_kept(bench, cell, name, _at_every_layer(bench, cell, method)))


def _at_every_layer(bench: Bench, cell: Labelled, method: Method) -> Floats:
    return np.concatenate([method(cell.at(bench.reader, place)) for place in range(len(bench.layers))])


def _counted(bench: Bench, cell: Labelled, method: str, **figures: Any) -> DirectionSummary:
    answers = cell.answers
    return DirectionSummary(
        cell=cell.cell,
        method=method,
        misaligned=answers.misaligned,
        aligned=answers.aligned,
        questions=answers.questions,
        left_out=cell.left_out,
        **bench.named,
        **figures,
    )


def _kept(bench: Bench, cell: Labelled, method: str, found_LD: Floats) -> dict[str, Any]:
    """Write the directions; the summary's fields about them."""
    origin = Origin(
        model=cell.cell.model,
        revision=cell.states.revision,
        cell=cell.cell.name,
        method=method,
        source=bench.sheet.source,
        reader=bench.reader,
        seed=bench.setting.seed,
        study=bench.setting.study,
    )
    answers, stream_L = cell.answers, cell.stream_norms[bench.reader]
    norm_L = np.linalg.norm(found_LD, axis=1)
    counts = (answers.misaligned, answers.aligned, answers.questions)
    directions = [
        Direction(unit(v_D), layer, float(norm), float(stream), *counts, origin)
        for v_D, layer, norm, stream in zip(found_LD, bench.layers, norm_L, stream_L, strict=True)
    ]
    return {
        "layer": bench.layer,
        "norm": float(norm_L[bench.place]),
        "stream_norm": float(stream_L[bench.place]),
        "file": bench.setting.write(directions),
    }
