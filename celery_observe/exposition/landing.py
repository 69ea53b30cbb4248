"""The page that a person sees who opens the address in a browser. It loads nothing and runs nothing."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from string import Template

from celery_observe import __version__

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1b1f23}"
    "h1{font-size:1.5rem}code{font-size:.95em}li{margin:.25rem 0}.no{color:#a40e26}.yes{color:#116329}"
    "@media(prefers-color-scheme:dark){body{background:#16191d;color:#dfe3e8}a{color:#79b8ff}"
    ".no{color:#ff8a94}.yes{color:#6fdd8b}}"
)

STYLE_HASH = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = Template(f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>celery-observe</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>celery-observe {escape(__version__)}</h1>
$state
<ul>
<li><a href="metrics"><code>/metrics</code></a>: for Prometheus, as text or OpenMetrics</li>
<li><a href="healthz"><code>/healthz</code></a>: whether this process lives</li>
<li><a href="readyz"><code>/readyz</code></a>: whether its numbers can be believed now</li>
</ul>
</main>
</body>
</html>
""")


def landing_page(*, ready: bool, reasons: Iterable[str]) -> str:
    """Return the page, with the state that /readyz tells."""
    why = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    state = '<p class="yes">Ready.</p>' if ready else '<p class="no">Not ready:</p>'
    return PAGE.substitute(state=f"{state}\n<ul>{why}</ul>" if why else state)
