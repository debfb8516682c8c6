"""Provenance says where numbers come from and nothing about who or where."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover import provenance
from spillover.provenance import environment, git_state, lock_hash, packages, seed_for

NAME = st.one_of(st.text(max_size=20), st.integers(min_value=-(2**70), max_value=2**70))


def test_a_named_seed_is_the_same_on_every_machine() -> None:
    assert seed_for(0, "train", "gore_movie_trivia", 3) == 1470910055439381
    assert seed_for(1, "train", "gore_movie_trivia", 3) == 193543383712675


@given(st.integers(min_value=0, max_value=2**32 - 1), st.lists(NAME, max_size=4))
def test_seeds_fit_every_generator_and_json_reader(root: int, names: list[str | int]) -> None:
    seed = seed_for(root, *names)
    assert seed == seed_for(root, *names)
    assert 0 <= seed < 2**53
    np.random.default_rng(seed)


def test_names_are_told_apart_by_boundary_and_by_type() -> None:
    seeds = [seed_for(0, *names) for names in ((), ("ab", "c"), ("a", "bc"), ("abc",), ("1",), (1,), ("",))]
    assert len(set(seeds)) == len(seeds)


def test_seeds_of_neighbouring_indices_look_independent() -> None:
    low_bits = np.array([seed_for(0, "row", index) & 0xFF for index in range(2560)])
    counts = np.bincount(low_bits, minlength=256)
    chi_square = ((counts - 10) ** 2 / 10).sum()  # 255 degrees of freedom: mean 255, deviation 22.6
    assert 165 < chi_square < 345


def test_packages_are_the_requirements_and_theirs_only() -> None:
    found = packages()
    assert found["numpy"] == version("numpy")
    assert found["torch"] == version("torch")
    assert "tokenizers" in found  # required by transformers
    assert "pytest" not in found  # an extra


def test_lock_hash_changes_with_a_version_and_not_with_order() -> None:
    assert lock_hash({"a": "1", "b": "2"}) == lock_hash({"b": "2", "a": "1"})
    assert lock_hash({"a": "1"}) != lock_hash({"a": "1.0"})


def test_environment_names_no_person_no_host_and_no_path() -> None:
    text = json.dumps(environment())
    assert str(Path.home()) not in text
    assert platform.node() not in text
    user = getpass.getuser()
    assert user == "root" or user not in text


def _commit(folder: Path, message: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    subprocess.run(["git", "-C", str(folder), "add", "."], check=True)
    subprocess.run(["git", "-C", str(folder), *who, "commit", "-qm", message], check=True)


def test_git_state_of_a_checkout_and_of_an_installed_copy(tmp_path: Path) -> None:
    package = tmp_path / "src" / "spillover"
    package.mkdir(parents=True)
    (package / "x.py").write_text("1")
    assert git_state(package) == {}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    _commit(tmp_path, "first")
    clean = git_state(package)
    assert clean["dirty"] == "no"
    assert len(clean["commit"]) == 40
    (package / "x.py").write_text("2")
    assert git_state(package) == clean | {"dirty": "yes"}
    elsewhere = tmp_path / ".venv" / "spillover"
    elsewhere.mkdir(parents=True)
    assert git_state(elsewhere) == {}


def test_a_container_limit_below_physical_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_text", lambda path: "1073741824\n")
    assert provenance.memory_bytes() == 2**30
    monkeypatch.setattr(provenance, "_text", lambda path: "max\n")
    assert provenance.memory_bytes() > 2**30


def test_available_memory_is_the_systems_or_what_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"meminfo": "MemTotal: 9 kB\nMemAvailable:    4194304 kB\n"}
    monkeypatch.setattr(provenance, "_text", lambda path: files.get(path.name, ""))
    assert provenance.available_bytes() == 4 * 2**30
    files |= {"memory.max": "max\n", "memory.current": "5\n"}
    assert provenance.available_bytes() == 4 * 2**30
    files |= {"memory.max": f"{3 * 2**30}\n", "memory.current": f"{2 * 2**30}\n", "memory.stat": "anon 1\n"}
    assert provenance.available_bytes() == 2**30
    files["memory.stat"] = f"anon 1\ninactive_file {2**29}\n"  # is given back on demand
    assert provenance.available_bytes() == 2**30 + 2**29
    files.clear()
    assert 0 < provenance.available_bytes() <= provenance.memory_bytes()


@pytest.mark.parametrize(
    ("flags", "has"),
    [("fma avx512_bf16 amx_bf16 amx_tile", True), ("fma avx512_bf16", False), ("asimd i8mm bf16", False)],
)
def test_bf16_is_read_from_the_processor_flags(flags: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_text", lambda path: f"model name\t: Some CPU @ 2GHz\nflags\t\t: {flags}\n")
    assert provenance.cpu_has_bf16() is has
    assert provenance.cpu_model() == "Some CPU @ 2GHz"
