"""The heads: their formula row by row, their file, their fit on data whose truth is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import spearmanr

from spillover.errors import MachineError
from spillover.judges.embedded import fit as probe_fit
from spillover.judges.embedded.fit import JudgedAnswers, compare_scores, fit_heads, held_out_scores, measure_quality
from spillover.judges.embedded.heads import Heads, kernel, load_heads, save_heads


def made_up(n: int = 600, files: int = 6, seed: int = 0) -> JudgedAnswers:
    """Scores that are a curved function of five of twelve features, plus noise."""
    rng = np.random.default_rng(seed)
    features_ND = (rng.standard_normal((n, 12)) * np.linspace(1, 40, 12)).astype(np.float32)
    x_ND = features_ND / np.linspace(1, 40, 12)
    alignment_N = 60 + 25 * x_ND[:, 0] - 12 * x_ND[:, 1] ** 2 + 10 * x_ND[:, 2] + rng.normal(0, 3, n)
    coherence_N = 70 + 20 * x_ND[:, 3] + 10 * x_ND[:, 4] + rng.normal(0, 3, n)
    scores_N2 = np.clip(np.stack([alignment_N, coherence_N], 1), 0, 100).astype(np.float32)
    return JudgedAnswers(features_ND, np.ones(12, np.float32), scores_N2, np.arange(n) % files, np.zeros(n, bool))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_fit, "AXES", 8)


@pytest.fixture(scope="module")
def data() -> JudgedAnswers:
    return made_up()


def test_scores_follow_the_formula_row_by_row(data: JudgedAnswers) -> None:
    heads = fit_heads(data, {})
    scores_N2 = heads.scores(data.features_ND[:5])
    for x_D, got in zip(data.features_ND[:5].astype(np.float64), scores_N2, strict=True):
        z_K = ((x_D - heads.center_D) / heads.scale_D) @ (heads.axes_DK * heads.axes_step_K.astype(np.float64))
        distances = ((z_K - heads.landmarks_MK * heads.landmarks_step_K.astype(np.float64)) ** 2).sum(1)
        t_4 = heads.bias_4 + np.exp(-distances / heads.bandwidth[0]) @ heads.weights_M4
        t_4 = (t_4 - heads.spread_42[:, 0]) / heads.spread_42[:, 1]
        for aspect in (0, 1):
            rank, low = t_4[2 * aspect], t_4[2 * aspect + 1]
            gate = 1 / (1 + np.exp(-((rank + low) / 2 + 0.5) / 0.6))
            expected = np.interp(gate * rank + (1 - gate) * low, *heads.knots_22Q[aspect])
            assert got[aspect] == pytest.approx(expected, abs=0.05)


def test_learns_what_there_is_and_keeps_rates(data: JudgedAnswers) -> None:
    fresh = made_up(seed=1)
    predicted_N2 = fit_heads(data, {}).scores(fresh.features_ND)
    for aspect in (0, 1):
        assert spearmanr(predicted_N2[:, aspect], fresh.scores_N2[:, aspect])[0] > 0.9
    for below in (30, 50):
        assert (predicted_N2[:, 0] < below).mean() == pytest.approx((fresh.scores_N2[:, 0] < below).mean(), abs=0.05)


def test_same_data_and_seed_same_heads(data: JudgedAnswers) -> None:
    first, second = fit_heads(data, {"a": "b"}, 3), fit_heads(data, {"a": "b"}, 3)
    for field in dataclasses.fields(Heads):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name))
    assert first.about["seed"] == "3"


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_axes_are_those_of_the_covariance(shape: tuple[int, int]) -> None:
    x_ND = np.random.default_rng(0).standard_normal(shape)
    axes_DK = probe_fit._principal_axes(x_ND, 5)  # pyright: ignore[reportPrivateUsage]
    values, vectors = np.linalg.eigh(x_ND.T @ x_ND)
    np.testing.assert_allclose(np.abs(axes_DK.T @ vectors[:, ::-1][:, :5]), np.eye(5), atol=1e-6)
    assert values[-1] == pytest.approx(((x_ND @ axes_DK[:, 0]) ** 2).sum())


def test_held_out_predictions_are_those_of_a_fit_without_the_file() -> None:
    rng = np.random.default_rng(1)
    x_NK, y_N2, files_N = rng.standard_normal((40, 3)), rng.standard_normal((40, 2)), np.arange(40) % 4
    kernel_NN = kernel(x_NK, x_NK, 2.0)
    weights_N2, held_out_N2 = probe_fit._ridge(kernel_NN.copy(), y_N2, files_N)  # pyright: ignore[reportPrivateUsage]
    lifted_NN = kernel_NN + probe_fit.RIDGE * np.eye(40)
    np.testing.assert_allclose(weights_N2, np.linalg.solve(lifted_NN, y_N2))
    for file in range(4):
        out, rest = np.flatnonzero(files_N == file), np.flatnonzero(files_N != file)
        weights = np.linalg.solve(lifted_NN[np.ix_(rest, rest)], y_N2[rest])
        np.testing.assert_allclose(held_out_N2[out], kernel_NN[np.ix_(out, rest)] @ weights)


def test_the_axes_are_those_along_which_the_scores_change(data: JudgedAnswers) -> None:
    """Of twelve features five matter, and not the two of the largest variance."""
    heads = fit_heads(data, {})
    axes_DK = (heads.axes_DK * heads.axes_step_K) / heads.scale_D[:, None] * data.features_ND.std(0)[:, None]
    share_D = (axes_DK**2).sum(1) / (axes_DK**2).sum()
    assert share_D[:5].sum() > 0.6  # of even directions, 5 / 12


def test_of_too_many_answers_a_random_part_is_learnt_from(data: JudgedAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_fit, "MOST", 150)
    assert len(fit_heads(data, {}).landmarks_MK) == 150


@pytest.mark.slow
def test_rows_scored_by_rule_teach_what_they_know_and_are_not_measured(data: JudgedAnswers) -> None:
    rng = np.random.default_rng(9)
    far_ND = (rng.standard_normal((40, 12)) + 4).astype(np.float32) * np.linspace(1, 40, 12, dtype=np.float32)
    both = JudgedAnswers(
        np.concatenate([data.features_ND, far_ND]),
        data.block_D,
        np.concatenate([data.scores_N2, np.tile(np.float32([np.nan, 2]), (40, 1))]),
        np.append(data.files_N, np.arange(40) % 6),
        np.arange(640) >= 600,
    )
    before, after = fit_heads(data, {}).scores(far_ND), fit_heads(both, {}).scores(far_ND)
    assert after[:, 1].mean() < 25 < before[:, 1].mean()
    assert (
        np.abs(fit_heads(both, {}).scores(data.features_ND) - fit_heads(data, {}).scores(data.features_ND)).mean() < 5
    )
    assert measure_quality(both, both.files_N).n == 600
    rules_N = np.where(both.by_rule_N, 0, -1)
    np.testing.assert_array_equal(held_out_scores(both, rules_N)[600:], before)
    assert np.isnan(held_out_scores(both, rules_N)[:600]).all()


def test_a_score_that_is_not_known_is_neither_learnt_nor_compared(data: JudgedAnswers) -> None:
    scores_N2 = data.scores_N2.copy()
    scores_N2[::3, 1] = np.nan
    part = dataclasses.replace(data, scores_N2=scores_N2)
    heads = fit_heads(part, {})
    assert not heads.weights_M4[np.isnan(scores_N2[np.random.default_rng(0).permutation(600) < 600, 1]), 2:].any()
    assert spearmanr(heads.scores(data.features_ND)[:, 1], data.scores_N2[:, 1])[0] > 0.9
    assert heads.scores(data.features_ND)[:, 0] == pytest.approx(
        fit_heads(data, {}).scores(data.features_ND)[:, 0], abs=5
    )
    found = compare_scores(data.scores_N2, scores_N2, data.files_N, data.files_N)
    assert (found.auc, found.spearman, found.coherence_spearman, found.rate_error < 0.05) == (1, 1, 1, True)


@pytest.mark.slow
def test_measure_is_compare_on_left_out_predictions(data: JudgedAnswers) -> None:
    predicted_N2 = np.zeros_like(data.scores_N2)
    for file in range(6):
        rows = data.files_N == file
        predicted_N2[rows] = fit_heads(data[~rows], {}).scores(data.features_ND[rows])
    assert measure_quality(data, data.files_N) == compare_scores(
        predicted_N2, data.scores_N2, data.files_N, data.files_N
    )


@pytest.mark.slow
def test_groups_of_rule_scored_rows_do_not_crowd_the_batches(
    data: JudgedAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six files and six authored domains in six batches: still one file at a time."""
    monkeypatch.setattr(probe_fit, "BATCHES", 6)
    rule_N = np.arange(600) % 10 == 0
    both = dataclasses.replace(data, by_rule_N=rule_N)
    groups_N = np.where(rule_N, data.files_N + 6, data.files_N)
    one_by_one_N2 = held_out_scores(both, np.where(rule_N, -1, data.files_N))[~rule_N]
    expected = compare_scores(one_by_one_N2, data.scores_N2[~rule_N], data.files_N[~rule_N], data.files_N[~rule_N])
    assert measure_quality(both, groups_N) == expected


def test_heads_survive_their_file(data: JudgedAnswers, tmp_path: Path) -> None:
    heads = fit_heads(data, {"features": "f"})
    save_heads(heads, tmp_path / "deep" / "h.safetensors")
    again = load_heads(tmp_path / "deep" / "h.safetensors")
    np.testing.assert_array_equal(again.scores(data.features_ND), heads.scores(data.features_ND))
    assert dict(again.about) == dict(heads.about)
    assert heads.scores(data.features_ND[:0]).shape == (0, 2)


def test_files_that_are_not_heads(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    with pytest.raises(MachineError, match="spillover judge fit"):
        load_heads(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(MachineError, match="heads of the probe judge cannot be read"):
        load_heads(path)
    save_file({"a": np.zeros(2)}, path, metadata={"schema": "1", "about": "{}"})
    with pytest.raises(MachineError, match="not heads of schema 1"):
        load_heads(path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(MachineError, match="not heads"):
        load_heads(path)
