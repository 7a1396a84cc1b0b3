"""What an API server says of a field that it cannot take, in its words; and the forms that names have.

It exists so that the rules read as rules. Texts and forms are those of k8s.io/apimachinery's field errors and
validation. It must not know which object a field belongs to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from vkubelet.pods.text import quantity

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME = re.compile(r"[-a-z0-9]+")
_HEADER = re.compile(r"[-A-Za-z0-9]+")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
    " end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
    " start and end with an alphanumeric character"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character"
)
INT32 = 2**31 - 1


class Problems:
    """All that is wrong with one object."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def required(self, path: str, detail: str = "") -> None:
        """The field must be there."""
        self._add(path, "Required value", detail)

    def invalid(self, path: str, value: object, detail: str) -> None:
        """The field's value is none of those it can have."""
        self._add(path, f"Invalid value: {_shown(value)}", detail)

    def unsupported(self, path: str, value: object, choices: Iterable[str]) -> None:
        """The field's value is not one of a few words."""
        supported = ", ".join(json.dumps(choice) for choice in sorted(choices))
        self._add(path, f"Unsupported value: {_shown(value)}", f"supported values: {supported}")

    def duplicate(self, path: str, value: object) -> None:
        """Another one has this value already."""
        self._add(path, f"Duplicate value: {_shown(value)}")

    def missing(self, path: str, value: object) -> None:
        """What the field names is not there."""
        self._add(path, f"Not found: {_shown(value)}")

    def forbidden(self, path: str, detail: str) -> None:
        """The field may not be there."""
        self._add(path, "Forbidden", detail)

    def _add(self, *parts: str) -> None:
        self.found.append(": ".join(part for part in parts if part))

    def word(self, path: str, value: str, choices: Iterable[str]) -> None:
        """One of a few words is asked for."""
        if value not in choices:
            self.unsupported(path, value, choices)

    def not_negative(self, path: str, value: int) -> None:
        """A number that is counted or waited."""
        if value < 0:
            self.invalid(path, value, "must be greater than or equal to 0")

    def label(self, path: str, value: str) -> None:
        """A DNS label: the names of containers and volumes."""
        self._form(path, value, _DNS_LABEL, 63, _LABEL_TEXT)

    def subdomain(self, path: str, value: str) -> None:
        """A DNS subdomain: the names of most objects."""
        self._form(path, value, _DNS_SUBDOMAIN, 253, _SUBDOMAIN_TEXT)

    def key(self, path: str, value: str) -> None:
        """A key of a config map or secret."""
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        if value in (".", "..") or value.startswith(".."):
            self.invalid(path, value, "must not be '.' or begin with '..'")
        self._form(path, value, _KEY, 253, text)

    def qualified(self, path: str, value: str) -> None:
        """A name with an optional DNS prefix: keys of labels and annotations, names of resources."""
        prefix, slash, name = value.rpartition("/")
        if slash and not prefix:
            self.invalid(path, value, "prefix part must be non-empty")
        elif slash:
            self._form(path, prefix, _DNS_SUBDOMAIN, 253, f"prefix part {_SUBDOMAIN_TEXT}", shown=value)
        if not name:
            self.invalid(path, value, "name part must be non-empty")
        else:
            self._form(path, name, _QUALIFIED, 63, _QUALIFIED_TEXT, shown=value)

    def label_value(self, path: str, value: str) -> None:
        """The value of a label."""
        if value:
            self._form(path, value, _QUALIFIED, 63, _VALUE_TEXT)

    def variable(self, path: str, value: str) -> None:
        """An environment variable's name: printable ASCII without `=`."""
        if not all(" " <= character <= "~" and character != "=" for character in value):
            text = 'must consist only of printable ASCII characters other than "="'
            self.invalid(path, value, f"a valid environment variable name {text}")

    def header(self, path: str, value: str) -> None:
        """An HTTP header's name."""
        text = "a valid HTTP header must consist of alphanumeric characters or '-'"
        self._form(path, value, _HEADER, 2**20, text)

    def port(self, path: str, value: int | str) -> None:
        """A port's number, or the name of one."""
        if isinstance(value, int):
            if not 1 <= value <= 65535:
                self.invalid(path, value, "must be between 1 and 65535, inclusive")
            return
        if len(value) > 15:
            self.invalid(path, value, "must be no more than 15 characters")
        if _PORT_NAME.fullmatch(value) is None:
            self.invalid(
                path, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
            )
        if not any("a" <= character <= "z" for character in value):
            self.invalid(path, value, "must contain at least one letter (a-z)")
        if "--" in value:
            self.invalid(path, value, "must not contain consecutive hyphens")
        if value.startswith("-") or value.endswith("-"):
            self.invalid(path, value, "must not begin or end with a hyphen")

    def no_back_steps(self, path: str, value: str) -> None:
        """A path that does not climb."""
        if ".." in value.split("/"):
            self.invalid(path, value, "must not contain '..'")

    def descending(self, path: str, value: str) -> None:
        """A path below something."""
        if value.startswith("/"):
            self.invalid(path, value, "must be a relative path")
        self.no_back_steps(path, value)

    def file_name(self, path: str, value: str) -> None:
        """A path below a volume that the kubelet writes itself."""
        self.descending(path, value)
        if value.startswith("..") and not value.startswith("../"):
            self.invalid(path, value, "must not start with '..'")

    def mode(self, path: str, value: int | None) -> None:
        """A file's mode bits."""
        if value is not None and not 0 <= value <= 0o777:
            text = "must be a number between 0 and 0777 (octal), both inclusive"
            self.invalid(path, value, text)

    def amount(self, path: str, value: int | str) -> bool:
        """A quantity that is not negative; whether it is a quantity at all."""
        try:
            negative = quantity(value) < 0
        except ValueError as error:
            self.invalid(path, value, str(error))
            return False
        if negative:
            self.invalid(path, value, "must be greater than or equal to 0")
        return True

    def _form(
        self, path: str, value: str, form: re.Pattern[str], longest: int, text: str, shown: str | None = None
    ) -> None:
        shown = value if shown is None else shown
        if len(value) > longest:
            self.invalid(path, shown, f"must be no more than {longest} characters")
        if form.fullmatch(value) is None:
            self.invalid(path, shown, text)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + "..."
