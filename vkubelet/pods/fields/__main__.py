"""Writes the page that tells what becomes of each field: `python -m vkubelet.pods.fields`.

It exists so that the page cannot say anything else than the tables. It must not know any field.
"""

from __future__ import annotations

from vkubelet.pods.fields.base import Field
from vkubelet.pods.fields.refusals import tables

_HEAD = """\
# What becomes of each field of a pod

This page is generated (`make docs`) from the tables by which the node admits pods, and a test holds them
against the API server's OpenAPI document, so that no field is forgotten. A field *works* when it means what
Kubernetes says it means; some are applied only *as far as wasm allows*; a pod with a field that is *refused*
ends as Failed, with the reason `UnsupportedPodSpec` and a message that has the field's path and this text.
"""


def page() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for kind, fields in tables().items():
        parts.append(f"## {kind}\n\n| field | | |\n| --- | --- | --- |\n")
        parts.append("".join(_row(name, field) for name, field in fields.items()))
    return "\n".join(parts)


def _row(name: str, field: Field) -> str:
    return f"| `{name}` | {field.how.value} | {field.note.replace('|', '&#124;')} |\n"


if __name__ == "__main__":
    print(page(), end="")
