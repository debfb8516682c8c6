"""`spillover dataset`: data sets without training: build, card, encrypt, decrypt; lint, generate, paraphrase."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from spillover.cli.run_command import PATH, as_json_option, domain_option, overrides, print_json
from spillover.errors import UserError
from spillover.registry import resolve

ELSEWHERE = {
    "lint": "spillover.cli.rows:lint",
    "generate": "spillover.cli.dataset_write:generate",
    "paraphrase": "spillover.cli.dataset_write:paraphrase",
}


class _Group(click.Group):
    """Commands of this file, and those of other files, which are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return resolve(ELSEWHERE[cmd_name]) if cmd_name in ELSEWHERE else super().get_command(ctx, cmd_name)


@click.group(cls=_Group)
def dataset() -> None:
    """Make data sets, check them, and release them safely."""


@dataset.command(short_help="Build the data sets of a study or of one domain.")
@click.argument("study", type=PATH, required=False)
@domain_option
@click.option("--rows", type=click.IntRange(min=2), help="Training rows per data set; overrides data.rows.")
@click.option(
    "--variant", "variants", multiple=True, type=click.Choice(["plain", "triggered", "control"]), help="Repeatable."
)
@click.option("--seed", type=int, help="Root seed; overrides the study's.")
@click.option("--set", "settings", multiple=True, metavar="A.B=VALUE", help="Override one setting; repeatable.")
@click.option("--out", type=PATH, required=True, help="New folder.")
@as_json_option
def build(
    study: Path | None,
    domains: tuple[str, ...],
    rows: int | None,
    variants: tuple[str, ...],
    seed: int | None,
    settings: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Write the data sets of STUDY, or of the default study, as JSONL files with their metadata. Nothing is trained.

    With the same seed these are the rows that a run of the study trains on.
    """
    from spillover.cli.dataset_build import build_sets, print_table
    from spillover.config.study import default_study, load_study
    from spillover.data.release.archive import write_new
    from spillover.data.release.dataset import FACTS, facts_file

    extra = [*settings]
    if domains:
        extra.append(f"domains={json.dumps([name.replace('-', '_') for name in domains])}")
    if variants:
        extra.append(f"variants={json.dumps(variants)}")
    if rows is not None:
        extra.append(f"data.rows={rows}")
    changes = overrides(tuple(extra), seed, None)
    config = default_study("spillover-data", changes) if study is None else load_study(study, changes)
    facts, files = build_sets(config)
    write_new({**files, FACTS: facts_file(facts)}, out)
    if as_json:
        print_json(facts, indent=2)
        return
    print_table(facts.sets, facts.shared)
    click.echo(f"{out}: {len(files)} files and {FACTS}. Next: spillover dataset card {out}")


@dataset.command(short_help="Write a data set card: README.md and croissant.json.")
@click.argument("folder", type=PATH)
@click.option("--url", help="Address at which the data set will be published.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="Date of publication, such as 2026-03-31.")
def card(folder: Path, url: str | None, date: object) -> None:
    """Write README.md and croissant.json into FOLDER, from what `build` wrote about it."""
    from spillover.data.release.card import CARD, CROISSANT, croissant, render_card
    from spillover.data.release.dataset import read_facts
    from spillover.store.store import disk_errors

    facts = read_facts(folder)
    metadata = croissant(facts, url, None if date is None else str(date)[:10])
    with disk_errors(folder):
        (folder / CARD).write_text(render_card(facts, url), encoding="utf-8")
        (folder / CROISSANT).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    click.echo(f"{folder / CARD}\n{folder / CROISSANT}\nNext: spillover dataset encrypt {folder} --out {folder}.age")


@dataset.command(short_help="Encrypt a folder or file in the age format.")
@click.argument("path", type=PATH)
@click.option("--out", type=PATH, required=True, help="New file, such as NAME.age.")
@click.option(
    "--recipient", "recipients", multiple=True, metavar="AGE1...", help="Public key to encrypt for; repeatable."
)
def encrypt(path: Path, out: Path, recipients: tuple[str, ...]) -> None:
    """Encrypt the folder or file PATH as one archive in the age format.

    Without --recipient: with the passphrase in SPILLOVER_PASSPHRASE, or one that is asked for.
    """
    from spillover.data.release.archive import pack
    from spillover.data.release.card import CARD
    from spillover.data.release.dataset import FACTS, read_facts
    from spillover.data.release.encryption import encrypt_bytes
    from spillover.store.store import disk_errors

    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already. Choose another --out.")
    if (path / FACTS).exists():
        read_facts(path)  # what is published is what was built
        if not (path / CARD).exists():
            click.echo(f"spillover: {path} has no card yet. Write it with: spillover dataset card {path}", err=True)
    packed = pack(path)
    sealed = encrypt_bytes(packed, None if recipients else _passphrase(confirm=True), recipients)
    with disk_errors(out), open(out, "xb") as file:
        file.write(sealed)
    click.echo(f"{out}: {len(sealed):,} bytes")


@dataset.command()
@click.argument("file", type=PATH)
@click.option("--out", type=PATH, required=True, help="New folder.")
@click.option("--identity", type=PATH, help="Identity file of a recipient, as written by age-keygen.")
def decrypt(file: Path, out: Path, identity: Path | None) -> None:
    """Decrypt the age file FILE below the new folder OUT.

    A tar archive is unpacked after all its names and sizes are checked; anything else is written as one file. Without
    --identity: with the passphrase in SPILLOVER_PASSPHRASE, or one that is asked for.
    """
    from spillover.data.release.archive import is_archive, unpack, write_new
    from spillover.data.release.encryption import check_recipient_kind, decrypt_bytes

    sealed = _read(file)
    check_recipient_kind(sealed, identity is None)
    key = None if identity is None else _read(identity).decode("utf-8", "replace")
    plain = decrypt_bytes(sealed, None if identity else _passphrase(confirm=False), key)
    written = unpack(plain, out) if is_archive(plain) else write_new({file.stem or "plain": plain}, out)
    for path in written:
        click.echo(path)


def _passphrase(confirm: bool) -> str:
    from spillover.data.release.encryption import PASSPHRASE_VARIABLE

    if given := os.environ.get(PASSPHRASE_VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise UserError(
            f"No passphrase. Set {PASSPHRASE_VARIABLE}, or run this command in a terminal to be asked for it."
        )
    return click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm)


def _read(path: Path) -> bytes:
    from spillover.data.release.archive import LARGEST, MIB

    try:
        if path.stat().st_size > LARGEST + MIB:
            raise UserError(f"{path} has more than {LARGEST // MIB} MiB. Decrypt it with the program age.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name an existing file.") from None
