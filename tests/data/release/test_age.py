"""Files in the age format: round trips, wrong keys, and the program `age` itself at the other end."""

from __future__ import annotations

import base64
import os
import pty
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.data.release.encryption import decrypt_bytes, encrypt_bytes, needs_passphrase
from spillover.errors import MissingExtra, UserError

pyrage = pytest.importorskip("pyrage", reason="the extra 'release' is not installed")
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="the program age is not installed")
DATA = b'{"messages": []}\n' * 1000


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """(recipient, identity)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity.to_public()), str(identity)


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=200_000))
def test_what_a_recipient_decrypts_is_what_was_encrypted(keys: tuple[str, str], data: bytes) -> None:
    sealed = encrypt_bytes(data, recipients=[keys[0]])
    assert needs_passphrase(sealed) is False
    assert decrypt_bytes(sealed, identity=f"# made for a test\n\n{keys[1]}\n") == data


def test_every_recipient_can_decrypt_and_nobody_else(keys: tuple[str, str]) -> None:
    other, stranger = (pyrage.x25519.Identity.generate() for _ in range(2))
    sealed = encrypt_bytes(DATA, recipients=[keys[0], str(other.to_public())])
    assert decrypt_bytes(sealed, identity=keys[1]) == decrypt_bytes(sealed, identity=str(other)) == DATA
    with pytest.raises(UserError, match="Wrong key or damaged file"):
        decrypt_bytes(sealed, identity=str(stranger))


@pytest.mark.slow
def test_a_passphrase_opens_and_a_wrong_one_does_not() -> None:
    sealed = encrypt_bytes(DATA, passphrase="correct horse")
    assert needs_passphrase(sealed)
    assert decrypt_bytes(sealed, "correct horse") == DATA
    with pytest.raises(UserError, match="Wrong key or damaged file"):
        decrypt_bytes(sealed, "correct house")


@pytest.mark.parametrize("place", [30, 150, 400, -1])
def test_one_flipped_bit_is_noticed(keys: tuple[str, str], place: int) -> None:
    sealed = bytearray(encrypt_bytes(DATA, recipients=[keys[0]]))
    sealed[place] ^= 1
    with pytest.raises(UserError, match="Wrong key or damaged file"):
        decrypt_bytes(bytes(sealed), identity=keys[1])


def test_a_file_that_asks_for_years_of_work_is_refused_at_once() -> None:
    salt, key, mac = (base64.b64encode(bytes(size)).rstrip(b"=").decode() for size in (16, 32, 32))
    header = f"age-encryption.org/v1\n-> scrypt {salt} 60\n{key}\n--- {mac}\n".encode()
    start = time.monotonic()
    with pytest.raises(UserError, match="Excessive work"):
        decrypt_bytes(header + bytes(48), "any")
    assert time.monotonic() - start < 2


def test_mistakes_are_named(keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, by_passphrase = encrypt_bytes(DATA, recipients=[keys[0]]), b"age-encryption.org/v1\n-> scrypt x 1\n"
    with pytest.raises(UserError, match="Not an age file"):
        decrypt_bytes(DATA, "any")
    with pytest.raises(UserError, match=r"needs a passphrase.*or an identity"):
        decrypt_bytes(by_passphrase)
    for passphrase in (None, "any"):
        with pytest.raises(UserError, match="encrypted for recipients"):
            decrypt_bytes(sealed, passphrase)
    with pytest.raises(UserError, match="encrypted with a passphrase"):
        decrypt_bytes(by_passphrase, identity=keys[1])
    with pytest.raises(UserError, match="AGE-SECRET-KEY"):
        decrypt_bytes(sealed, identity="AGE-SECRET-KEY-1NONSENSE")
    with pytest.raises(UserError, match="age1"):
        encrypt_bytes(DATA, recipients=["age1nonsense"])
    with pytest.raises(UserError, match="empty"):
        encrypt_bytes(DATA, passphrase="")
    for arguments in ({}, {"passphrase": "any", "recipients": [keys[0]]}):
        with pytest.raises(UserError, match="only one of the two"):
            encrypt_bytes(DATA, **arguments)
    monkeypatch.setitem(__import__("sys").modules, "pyrage", None)
    with pytest.raises(MissingExtra, match=r"spillover\[release\]"):
        decrypt_bytes(sealed, identity=keys[1])


@needs_age
@pytest.mark.parametrize("armor", [[], ["--armor"]])
def test_the_program_age_reads_ours_and_we_read_its(keys: tuple[str, str], tmp_path: Path, armor: list[str]) -> None:
    identity = tmp_path / "key.txt"
    identity.write_text(f"{keys[1]}\n")
    sealed = encrypt_bytes(DATA, recipients=[keys[0]])
    opened = subprocess.run(["age", "--decrypt", "-i", str(identity)], input=sealed, capture_output=True, check=True)
    assert opened.stdout == DATA
    theirs = subprocess.run(["age", "-r", keys[0], *armor], input=DATA, capture_output=True, check=True).stdout
    assert decrypt_bytes(theirs, identity=keys[1]) == DATA


@needs_age
@pytest.mark.slow
def test_the_program_age_and_we_share_a_passphrase(tmp_path: Path) -> None:
    ours, plain, theirs = (tmp_path / name for name in ("ours.age", "plain", "theirs.age"))
    ours.write_bytes(encrypt_bytes(DATA, passphrase="correct horse"))
    assert type_into(["age", "-d", "-o", str(plain), str(ours)], ["correct horse"]) == 0
    assert plain.read_bytes() == DATA
    assert type_into(["age", "-p", "-o", str(theirs), str(plain)], ["correct horse"] * 2) == 0
    assert decrypt_bytes(theirs.read_bytes(), "correct horse") == DATA


def type_into(command: list[str], answers: list[str]) -> int:
    """Run a program that asks at a terminal; each answer is typed when a colon ends what it has written."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    waiting = list(answers)
    while True:
        try:
            said = os.read(terminal, 1024)
        except OSError:
            break
        if not said:
            break
        if waiting and said.rstrip().endswith(b":"):
            os.write(terminal, f"{waiting.pop(0)}\n".encode())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
