"""A kept predictor says what it was fitted to say, names what it extrapolates, and cannot be made to do harm."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spillover.errors import UserError
from spillover.records.predictor import MOST_BYTES, Predictor, fit

DOMAINS = [f"d{d:02d}" for d in range(11) for _ in range(4)]
SAID = {"models": ["m"] * 44, "study_hash": "abc", "judge": "probe:1"}


def data(seed: int = 0, domains: list[str] = DOMAINS) -> tuple[dict[str, list[float]], list[float]]:
    rng = np.random.default_rng(seed)
    centre = dict(zip(sorted(set(domains)), rng.uniform(0.1, 0.9, size=99), strict=False))
    x = np.array([centre[d] for d in domains]) + 0.03 * rng.normal(size=len(domains))
    y = np.clip(0.7 * x + 0.05 * rng.normal(size=len(domains)), 0, 1)
    return {"mean_z.instruct": x.tolist(), "noise": rng.normal(size=len(domains)).tolist()}, y.tolist()


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    features, rates = data()
    return fit(features, rates, "rate", DOMAINS, **SAID)


def test_it_predicts_as_sklearn_does(fitted: Predictor) -> None:
    features, rates = data()
    x = np.column_stack(list(features.values()))
    naive = make_pipeline(StandardScaler(), Ridge(fitted.alpha)).fit(x, rates).predict(x)
    said = [fitted.predict(dict(zip(features, row, strict=True))) for row in x.tolist()]
    assert [p.value for p in said] == pytest.approx(np.clip(naive, 0, 1))
    assert all(p.inside and p.outside == () and p.low <= p.value <= p.high for p in said)
    assert fitted.error < 0.5 * fitted.error_of_mean
    assert (fitted.provenance.cells, len(fitted.provenance.domains)) == (44, 11)


@pytest.mark.slow
def test_new_domains_lie_in_the_interval_as_often_as_it_says() -> None:
    """Errors of domains left out stand in for new domains; the largest cell of a domain counts."""
    inside = []
    for seed in range(60):
        names = DOMAINS + ["new"] * 4
        features, rates = data(seed, names)
        kept = fit({k: v[:44] for k, v in features.items()}, rates[:44], "rate", DOMAINS, **SAID)
        new = [kept.predict({k: v[i] for k, v in features.items()}) for i in range(44, 48)]
        inside.append(all(p.low <= y <= p.high for p, y in zip(new, rates[44:], strict=True)))
    assert np.mean(inside) >= 0.8 - 3 * (0.8 * 0.2 / 60) ** 0.5


def test_an_extrapolation_names_its_features(fitted: Predictor) -> None:
    far = fitted.predict({"mean_z.instruct": 7.0, "noise": 0.0, "unknown": 1.0})
    assert (far.inside, far.outside, far.value) == (False, ("mean_z.instruct",), 1.0)
    assert fitted.predict({"mean_z.instruct": 0.5, "noise": 0.0}).inside


@pytest.mark.parametrize("features", [{}, {"noise": 1.0}, {"mean_z.instruct": float("nan"), "noise": 0.0}])
def test_a_missing_feature_is_refused(fitted: Predictor, features: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"needs mean_z\.instruct"):
        fitted.predict(features)


def test_round_trip(fitted: Predictor, tmp_path: Path) -> None:
    path = fitted.save(tmp_path / "predictor.json")
    assert Predictor.load(path) == fitted
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_size < 3000


def test_few_domains_give_no_interval() -> None:
    names = DOMAINS[:12]
    features, rates = data(1, names)
    kept = fit(features, rates, "rate", names, models=["m"], study_hash="", judge="j")
    said = kept.predict({name: column[0] for name, column in features.items()})
    assert (kept.half_width, said.low, said.high) == (None, 0.0, 1.0)
    with pytest.raises(UserError, match="at least 3 domains"):
        fit(features, rates, "rate", ["a"] * 6 + ["b"] * 6, models=["m"], study_hash="", judge="j")
    with pytest.raises(UserError, match="is missing for some cell"):
        fit(features | {"noise": [float("nan")] * 12}, rates, "rate", names, models=["m"], study_hash="", judge="j")


def changed(fitted: Predictor, **changes: object) -> bytes:
    return json.dumps(fitted.model_dump(mode="json") | changes).encode()


def test_hostile_files_are_refused(fitted: Predictor, tmp_path: Path) -> None:
    feature = fitted.features[0].model_dump()
    bad = {
        "pickle": pickle.dumps({"format": "spillover-predictor/1"}),
        "empty": b"",
        "not json": b"{",
        "list": b"[]",
        "deep": b"[" * 100_000,
        "huge": b" " * (MOST_BYTES + 1),
        "version": changed(fitted, format="spillover-predictor/2"),
        "unknown key": changed(fitted, run="rm"),
        "nan": changed(fitted, intercept=float("nan")),
        "infinite": b'{"intercept": 1e999}',
        "zero scale": changed(fitted, features=[feature | {"scale": 0.0}]),
        "twice": changed(fitted, features=[feature, feature]),
        "reversed": changed(fitted, features=[feature | {"low": 2.0, "high": 1.0}]),
        "no features": changed(fitted, features=[]),
        "overflow": changed(fitted, features=[feature | {"weight": 1e200}]),
        "long name": changed(fitted, features=[feature | {"name": "x" * 201}]),
        "target": changed(fitted, target="profit"),
        "negative": changed(fitted, half_width=-1),
    }
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            Predictor.load(path)
        assert len(str(caught.value)) < 700, name
    with pytest.raises(UserError, match="Name a predictor file"):
        Predictor.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="Name a predictor file"):
        Predictor.load(tmp_path)
