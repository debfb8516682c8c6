"""`spillover dataset`: from a build to an encrypted file and back, and every way to go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from spillover.cli.main import main
from spillover.data.release.encryption import PASSPHRASE_VARIABLE

pyrage = pytest.importorskip("pyrage", reason="the extra 'release' is not installed")
FAKE = (
    *("--set", "models=[{name: fake-model, backend: fake}]", "--set", "data.tolerance=0.9"),
    *("--set", "data.heldout=4", "--set", "data.answer_tokens=40"),
)
SETS = ("--domain", "extreme-sports", "--domain", "incorrect_qna", "--variant", "plain", "--rows", "20")


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def read(folder: Path) -> dict[str, bytes]:
    return {str(item.relative_to(folder)): item.read_bytes() for item in folder.rglob("*") if item.is_file()}


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    code, _, errors = call(capsys, "dataset", "build", *SETS, *FAKE, "--out", tmp_path / "data")
    assert (code, errors) == (0, "")
    return tmp_path / "data"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, Path]:
    """(recipient, identity file)."""
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"# made for a test\n{identity}\n")
    return str(identity.to_public()), tmp_path / "key.txt"


@pytest.mark.slow
def test_build_prints_counts_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, table, _ = call(capsys, "dataset", "build", *SETS, *FAKE, "--out", tmp_path / "a")
    assert code == 0
    assert all(len(line) <= 80 for line in table.splitlines()[:6]), "fits a terminal"
    assert "…" not in table
    code, shown, _ = call(capsys, "dataset", "build", *SETS, *FAKE, "--out", tmp_path / "b", "--json")
    assert code == 0
    facts = json.loads(shown)
    assert facts == json.loads((tmp_path / "b" / "dataset.json").read_text())
    for part in facts["sets"]:
        assert part["report"]["domain"] in table
        assert f"{part['report']['answer_tokens']['train']['total']:,}" in table
        assert f"{part['report']['steps']['pairs']:,} pairs, dropped: " in table
    assert read(tmp_path / "a") == read(tmp_path / "b")


@pytest.mark.slow
def test_build_of_a_study_file_writes_the_rows_that_a_run_trains_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    content = {
        "name": "tiny",
        "models": [{"name": "fake-model", "backend": "fake"}],
        "domains": ["incorrect_qna"],
        "data": {"rows": 16, "answer_tokens": 40, "tolerance": 0.2},
        "judge": {"name": "fake"},
        "executor": "inline",
    }
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    assert call(capsys, "run", study, "--out", tmp_path / "run", "--stage", "build", "--quiet")[0] == 0
    assert call(capsys, "dataset", "build", study, "--out", tmp_path / "data")[0] == 0
    of_run = {
        json.dumps(row["messages"])
        for shard in (tmp_path / "run" / "rows" / "build").glob("*.jsonl")
        for row in map(json.loads, shard.read_text().splitlines())
        if row["split"] == "train"
    }
    of_build = {
        json.dumps(json.loads(line)["messages"])
        for file in (tmp_path / "data").glob("*/train.jsonl")
        for line in file.read_text().splitlines()
    }
    assert of_build == of_run
    assert len(list((tmp_path / "data").glob("*/train.jsonl"))) == 3


def test_build_card_encrypt_decrypt(
    capsys: pytest.CaptureFixture[str], folder: Path, keys: tuple[str, Path], tmp_path: Path
) -> None:
    sealed, out = tmp_path / "data.age", tmp_path / "opened"
    code, said, _ = call(capsys, "dataset", "card", folder, "--url", "https://example.org/d", "--date", "2026-03-31")
    assert code == 0
    assert said.splitlines()[:2] == [str(folder / "README.md"), str(folder / "croissant.json")]
    metadata = json.loads((folder / "croissant.json").read_text())
    assert (metadata["url"], metadata["datePublished"]) == ("https://example.org/d", "2026-03-31")
    assert call(capsys, "dataset", "encrypt", folder, "--out", sealed, "--recipient", keys[0])[0] == 0
    assert b"messages" not in sealed.read_bytes()
    code, said, _ = call(capsys, "dataset", "decrypt", sealed, "--out", out, "--identity", keys[1])
    assert code == 0
    assert read(out) == read(folder)
    assert set(said.splitlines()) == {str(out / name) for name in read(folder)}
    code, _, errors = call(capsys, "dataset", "decrypt", sealed, "--out", out, "--identity", keys[1])
    assert code == 2
    assert "Choose another --out" in errors
    code, _, errors = call(capsys, "dataset", "encrypt", folder, "--out", sealed, "--recipient", keys[0])
    assert code == 2
    assert "Choose another --out" in errors


def test_encrypt_says_that_a_card_is_missing_and_refuses_a_changed_set(
    capsys: pytest.CaptureFixture[str], folder: Path, keys: tuple[str, Path], tmp_path: Path
) -> None:
    code, _, errors = call(capsys, "dataset", "encrypt", folder, "--out", tmp_path / "a.age", "--recipient", keys[0])
    assert code == 0
    assert f"spillover dataset card {folder}" in errors
    (folder / "incorrect_qna-plain" / "train.jsonl").write_text("{}\n")
    code, _, errors = call(capsys, "dataset", "encrypt", folder, "--out", tmp_path / "b.age", "--recipient", keys[0])
    assert code == 2
    assert "differs from the file that was built" in errors
    assert not (tmp_path / "b.age").exists()


@pytest.mark.slow
def test_the_passphrase_comes_from_the_environment(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse")
    assert call(capsys, "dataset", "encrypt", folder, "--out", tmp_path / "d.age")[0] == 0
    assert call(capsys, "dataset", "decrypt", tmp_path / "d.age", "--out", tmp_path / "opened")[0] == 0
    assert read(tmp_path / "opened") == read(folder)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "wrong horse")
    code, _, errors = call(capsys, "dataset", "decrypt", tmp_path / "d.age", "--out", tmp_path / "other")
    assert code == 2
    assert "Wrong key or damaged file" in errors
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(shutil.which("age") is None, reason="the program age is not installed")
def test_the_program_age_and_tar_open_ours_and_we_open_theirs(
    capsys: pytest.CaptureFixture[str], folder: Path, keys: tuple[str, Path], tmp_path: Path
) -> None:
    assert call(capsys, "dataset", "encrypt", folder, "--out", tmp_path / "d.age", "--recipient", keys[0])[0] == 0
    (tmp_path / "theirs").mkdir()
    opened = subprocess.run(["age", "-d", "-i", keys[1], tmp_path / "d.age"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", tmp_path / "theirs"], input=opened, check=True)
    assert read(tmp_path / "theirs") == read(folder)

    packed = subprocess.run(["tar", "-c", "-z", "-C", folder, "."], capture_output=True, check=True).stdout
    sealed = subprocess.run(["age", "-r", keys[0]], input=packed, capture_output=True, check=True).stdout
    (tmp_path / "their.tar.gz.age").write_bytes(sealed)
    arguments = ("--out", tmp_path / "ours", "--identity", keys[1])
    assert call(capsys, "dataset", "decrypt", tmp_path / "their.tar.gz.age", *arguments)[0] == 0
    assert read(tmp_path / "ours") == read(folder)


def test_what_is_no_archive_is_written_as_one_file(
    capsys: pytest.CaptureFixture[str], keys: tuple[str, Path], tmp_path: Path
) -> None:
    sealed = tmp_path / "rows.jsonl.age"
    sealed.write_bytes(pyrage.encrypt(b'{"messages": []}\n', [pyrage.x25519.Recipient.from_str(keys[0])]))
    code, said, _ = call(capsys, "dataset", "decrypt", sealed, "--out", tmp_path / "out", "--identity", keys[1])
    assert code == 0
    assert read(tmp_path / "out") == {"rows.jsonl": b'{"messages": []}\n'}
    assert said.strip() == str(tmp_path / "out" / "rows.jsonl")


@pytest.mark.slow
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    (tmp_path / "plain").write_text("Not an age file")
    out = ("--out", tmp_path / "out")
    for args, message in (
        (("build", *FAKE, "--domain", "extreme_sport", *out), "Did you mean 'extreme_sports'"),
        (("build", *FAKE, "--domain", "incorrect_qna", "--rows", "90000", *out), "Set data.rows to"),
        (("build", "absent.yaml", *out), "No study file at absent.yaml"),
        (("card", tmp_path), "No dataset.json"),
        (("encrypt", tmp_path / "absent", *out), "does not exist"),
        (("encrypt", tmp_path / "plain", *out), f"Set {PASSPHRASE_VARIABLE}"),
        (("encrypt", tmp_path / "plain", "--recipient", "age1x", *out), "Not a key of the form age1..."),
        (("decrypt", tmp_path / "plain", "--identity", tmp_path / "plain", *out), "Not an age file"),
        (("decrypt", tmp_path / "plain", *out), "Not an age file"),  # before a passphrase is asked for
        (("decrypt", tmp_path / "absent", *out), "cannot be read"),
        (("decrypt", tmp_path, *out), "cannot be read"),
    ):
        code, said, errors = call(capsys, "dataset", *args)
        assert (code, said) == (2, ""), args
        assert message in errors
        assert "Traceback" not in errors
    assert [item.name for item in tmp_path.iterdir()] == ["plain"]


def test_a_full_out_folder_is_left_alone(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    before = read(folder)
    code, _, errors = call(capsys, "dataset", "build", *SETS, *FAKE, "--seed", "1", "--out", folder)
    assert code == 2
    assert "Choose another --out" in errors
    assert read(folder) == before
