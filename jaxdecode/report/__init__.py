"""Floor 4: one HTML file that shows plain data; knows no model, chain or tokenizer."""

from jaxdecode.report.packing import pack
from jaxdecode.report.page import frame, render

__all__ = ["frame", "pack", "render"]
