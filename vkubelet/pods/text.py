"""Small texts that the kubelet writes the same way in many places: pod names, quantities, quoted texts."""

from __future__ import annotations

import decimal

from vkubelet.api.objects import Pod
from vkubelet.logs import Subject


def pod_text(pod: Pod) -> str:
    """A pod as the kubelet's messages name it: `NAME_NAMESPACE(UID)`."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def subject(pod: Pod, container: str = "") -> Subject:
    """What a record of the log about this pod, or this container of it, is about."""
    return Subject(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid, container)


def traced(pod: Pod) -> dict[str, str]:
    """The attributes of the trace of a pod's start."""
    meta = pod.metadata
    return {"k8s.namespace.name": meta.namespace, "k8s.pod.name": meta.name, "k8s.pod.uid": meta.uid}


def quoted(text: str) -> str:
    """The text as Go's %q writes it."""
    return '"' + "".join(_ESCAPES.get(char) or _printable(char) for char in text) + '"'


def _printable(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES = {
    '"': r"\"",
    "\\": r"\\",
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
}

_SUFFIXES = {
    "": decimal.Decimal(1),
    "n": decimal.Decimal("1e-9"),
    "u": decimal.Decimal("1e-6"),
    "m": decimal.Decimal("1e-3"),
    "k": decimal.Decimal(10**3),
    "M": decimal.Decimal(10**6),
    "G": decimal.Decimal(10**9),
    "T": decimal.Decimal(10**12),
    "P": decimal.Decimal(10**15),
    "E": decimal.Decimal(10**18),
    "Ki": decimal.Decimal(2**10),
    "Mi": decimal.Decimal(2**20),
    "Gi": decimal.Decimal(2**30),
    "Ti": decimal.Decimal(2**40),
    "Pi": decimal.Decimal(2**50),
    "Ei": decimal.Decimal(2**60),
}


def amount_text(amount: decimal.Decimal) -> str:
    """A quantity as the API server would write it: `64Mi`, `1500m`, `3`; rounded up to thousandths."""
    thousandths = int((amount * 1000).to_integral_value(decimal.ROUND_CEILING))
    whole, rest = divmod(thousandths, 1000)
    if rest:
        return f"{thousandths}m"
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if whole and whole % int(_SUFFIXES[suffix]) == 0:
            return f"{whole // int(_SUFFIXES[suffix])}{suffix}"
    return str(whole)


def quantity(value: str | int) -> decimal.Decimal:
    """A resource.Quantity in its base unit (bytes, cores). Raises ValueError naming what is wrong."""
    text = str(value).strip()
    number = text.rstrip("numkKMGTPEi")
    suffix = text[len(number) :]
    try:
        result = decimal.Decimal(number) * _SUFFIXES[suffix]
    except (decimal.InvalidOperation, KeyError):
        raise ValueError(f"{value!r} is no resource quantity") from None
    if not result.is_finite():
        raise ValueError(f"{value!r} is no resource quantity")
    return result
