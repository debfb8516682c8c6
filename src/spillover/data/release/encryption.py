"""Encrypted files in the age format, version 1 (age-encryption.org/v1): for a passphrase or for X25519 keys.

Data sets that teach misbehaviour are published encrypted, so that they do not end in a training corpus by accident. The
work is done by pyrage, the bindings of rage; files are interchangeable with the programs `age` and `rage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spillover.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from types import ModuleType

BINARY = b"age-encryption.org/v1\n"
ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
PASSPHRASE_VARIABLE = "SPILLOVER_PASSPHRASE"


def encrypt_bytes(data: bytes, passphrase: str | None = None, recipients: Sequence[str] = ()) -> bytes:
    """Encrypt for anyone who knows the passphrase, or for the holders of the recipients' keys ("age1...").

    Raises:
        UserError: when neither or both are given, or a recipient is no public key of age.
    """
    if (passphrase is None) == (not recipients):
        raise UserError("Encrypting needs a passphrase or recipients, and the format allows only one of the two.")
    pyrage = _pyrage()
    if passphrase is not None:
        if not passphrase:
            raise UserError("The passphrase is empty. Choose several random words.")
        return pyrage.passphrase.encrypt(data, passphrase)
    return pyrage.encrypt(data, [_key(pyrage.x25519.Recipient, recipient, "age1...") for recipient in recipients])


def decrypt_bytes(data: bytes, passphrase: str | None = None, identity: str | None = None) -> bytes:
    """Decrypt the content of an .age file, binary or armored.

    Args:
        data: the file's content.
        passphrase: of a file that was encrypted with one.
        identity: the text of an identity file: lines "AGE-SECRET-KEY-1...", comments allowed.

    Raises:
        UserError: when it is no age file, was made for another kind of key, or the key is wrong or the file damaged.
    """
    lines = _key_lines(identity or "")
    check_recipient_kind(data, not lines)
    if passphrase is None and not lines:
        raise UserError(f"Decrypting needs a passphrase ({PASSPHRASE_VARIABLE}) or an identity (AGE-SECRET-KEY-1...).")
    pyrage = _pyrage()
    identities = [_key(pyrage.x25519.Identity, line, "AGE-SECRET-KEY-1...") for line in lines]
    try:
        return pyrage.decrypt(data, identities) if identities else pyrage.passphrase.decrypt(data, passphrase)
    except pyrage.DecryptError as error:
        reason = "".join(letter for letter in " ".join(str(error).split()) if letter.isprintable())
        raise UserError(f"Wrong key or damaged file ({reason.rstrip('.')}). Check both.") from None


def check_recipient_kind(data: bytes, by_passphrase: bool) -> None:
    """Refuse what no key of that kind can open, before anybody is asked for one.

    Raises:
        UserError: when it is no age file, or was made for another kind of key.
    """
    if not data.startswith((BINARY, ARMOR)):
        raise UserError("Not an age file: its first line does not match the age format. Name the .age file.")
    needed = needs_passphrase(data)
    if by_passphrase and needed is False:
        raise UserError("The file was encrypted for recipients. Give the identity of one of them with --identity.")
    if not by_passphrase and needed:
        raise UserError("The file was encrypted with a passphrase. Give the passphrase instead of an identity.")


def needs_passphrase(data: bytes) -> bool | None:
    """Whether the file was encrypted with a passphrase; None where its armor hides that."""
    return data.startswith(BINARY + b"-> scrypt ") if data.startswith(BINARY) else None


def _key_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _key(kind: Any, text: str, form: str) -> Any:
    pyrage = _pyrage()
    try:
        return kind.from_str(text)
    except (pyrage.RecipientError, pyrage.IdentityError):
        raise UserError(f"Not a key of the form {form}. Make a pair of keys with `age-keygen`.") from None


def _pyrage() -> ModuleType:
    try:
        import pyrage  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra.of("pyrage", "release") from None
    return pyrage
