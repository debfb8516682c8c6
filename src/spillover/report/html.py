"""A page without scripts: it makes no request, and a content security policy holds it to that."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def page(title: str, header: str, body: str, footer: str) -> str:
    """The whole page in the report's style; all four are HTML, what came from outside escaped."""
    style = files("spillover.report").joinpath("assets", "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header>{header}</header>\n<main>\n{body}\n</main>\n<footer>{footer}</footer>\n</body>\n</html>\n"
    )
