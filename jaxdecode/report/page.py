"""A report as one HTML file: data, style and script inside, nothing from a network.

The page's content policy allows the script and the style by their hashes and nothing
else, so text that slips into the page could not run even if it were markup. All text is
in the data, which is shown with `textContent` only.
"""

import base64
import hashlib
import html
import importlib.resources
from typing import Any

from jaxdecode.report.packing import safe_json

SCRIPTS = (
    "base.js",
    "chain.js",
    "details.js",
    "text.js",
    "playground.js",
    "compare.js",
    "beams.js",
    "main.js",
)


def render(data: dict[str, Any]) -> str:
    """Return the page of a report.

    Args:
      data: what `text.inspection` describes; JSON types and packed arrays.
    """
    style = _read("style.css")
    script = "(() => {\n'use strict';\n" + "\n".join(map(_read, SCRIPTS)) + "})();\n"
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts = {"policy": policy, "style": style, "data": safe_json(data)}
    page = _read("page.html")
    # One pass: what a part contains is never looked at again.
    pieces = page.split("%%")
    known = parts | {"script": script}
    return "".join(known.get(piece, piece) for piece in pieces)


def frame(page: str, height: int = 900) -> str:
    """Return a page as a frame for a notebook, kept apart from the notebook's own."""
    source = html.escape(page, quote=True)
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{source}" title="decoding report" '
        f'style="width:100%;height:{height}px;border:1px solid #8888"></iframe>'
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _read(name: str) -> str:
    file = importlib.resources.files("jaxdecode.report") / "assets" / name
    return file.read_text(encoding="utf-8")
