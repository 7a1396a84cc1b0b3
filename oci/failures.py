"""What a failed request means, as one of this package's errors.

It exists so that the many ways in which requests, urllib3 and a registry say no come out as few types with
plain texts, and so that no URL's query gets into one. It must not know what was asked for.
"""

from __future__ import annotations

import datetime
import email.utils
import ssl

import msgspec
import requests
import urllib3.exceptions

from oci.auth import RefusedError, TokenServiceError
from oci.errors import (
    ImageError,
    Named,
    NotFoundError,
    RegistryHostsError,
    RegistryProtocolError,
    RegistryUnavailableError,
    UnauthorizedError,
    printable,
)
from oci.hosts import HostsError
from oci.proxies import ProxyError
from oci.tls import advice
from oci.transport import ProxyFailedError, RedirectError

FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    TokenServiceError,
    RefusedError,
    ProxyError,
    HostsError,
)
"""What a request or the reading of its answer raises."""

_ERROR_BODY = 8 * 1024
_ERROR_TEXT = 300

# What OpenSSL says when the other side does not speak TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_PLAIN_HTTP = " (does it speak plain HTTP? then list it as an insecure registry)"


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] = []


def from_status(reference: Named, response: requests.Response, subject: str) -> ImageError:
    """The error that an answer other than a success stands for; reads a little of its body."""
    status = response.status_code
    cause = f"{subject}: the registry answered {status} {response.reason or ''}".rstrip()
    said = _registry_text(response)
    if said:
        cause = f"{cause}: {said}"
    if status in (401, 403):
        return UnauthorizedError(reference, cause)
    if status == 404:
        return NotFoundError(reference, cause)
    if status == 429 or status >= 500:
        return RegistryUnavailableError(
            reference, cause, retry_after(response.headers.get("Retry-After", ""))
        )
    return RegistryProtocolError(reference, cause)


def from_exception(reference: Named, error: Exception, subject: str) -> ImageError:
    """The error that one of FAILURES stands for."""
    if isinstance(error, RefusedError):
        with error.response:
            return from_status(reference, error.response, subject)
    if isinstance(error, TokenServiceError):
        cause = f"{subject}: {error}"
        if error.status in (401, 403):
            return UnauthorizedError(reference, cause)
        if error.status == 429 or error.status >= 500:
            return RegistryUnavailableError(reference, cause, retry_after(error.retry_after))
        return RegistryProtocolError(reference, cause)
    if isinstance(error, RedirectError):
        return RegistryProtocolError(reference, f"{subject}: {error}")
    if isinstance(error, HostsError):
        return RegistryHostsError(reference, f"{subject}: {error}")
    if isinstance(error, ProxyError):
        return RegistryUnavailableError(reference, f"{subject}: {error}")
    if isinstance(error, ProxyFailedError):
        return RegistryUnavailableError(reference, f"{subject}: {error}: {_plain(error)}")
    if isinstance(error, (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)):
        return RegistryUnavailableError(reference, f"{subject}: {_plain(error)}")
    return RegistryProtocolError(reference, f"{subject}: {type(error).__name__}")


def together(reference: Named, failed: list[tuple[str, ImageError]], subject: str) -> ImageError:
    """One error for those of several hosts, of the last one's type: it is the registry itself as a rule."""
    _, last = failed[-1]
    if len(failed) == 1:
        return last
    causes = [f"{host}: {error.cause.removeprefix(f'{subject}: ')}" for host, error in failed]
    error = type(last)(reference, f"{subject}: {'; '.join(causes)}")
    if isinstance(error, RegistryUnavailableError) and isinstance(last, RegistryUnavailableError):
        error.retry_after = last.retry_after
    return error


def retry_after(header: str) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None when it is neither."""
    if header.isascii() and header.isdecimal():
        return float(header[:9])
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())


def _registry_text(response: requests.Response) -> str:
    """The registry's own words, in one printable line."""
    try:
        body = response.raw.read(_ERROR_BODY)
        problems = msgspec.json.decode(body, type=_Problems).errors
    except (urllib3.exceptions.HTTPError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = "; ".join(problem.message or problem.code for problem in problems)
    return printable(text)[:_ERROR_TEXT].strip()


def _plain(error: BaseException) -> str:
    """The innermost cause, whose text holds no URL: the outer ones repeat it with all of theirs."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, urllib3.exceptions.IncompleteRead):
            return f"the connection ended after {link.partial} bytes, {link.expected} short"
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return advice(link)
    for link in chain:
        if isinstance(link, OSError) and not isinstance(link, (requests.RequestException, TimeoutError)):
            text = link.strerror or str(link)
            hint = _PLAIN_HTTP if any(sign in str(link) for sign in _NOT_TLS) else ""
            return f"{text}{hint}"
    for link in chain:
        if isinstance(link, (urllib3.exceptions.ConnectTimeoutError, requests.ConnectTimeout)):
            return "no connection in time"
        if isinstance(link, (urllib3.exceptions.ReadTimeoutError, requests.ReadTimeout)):
            return "the registry stopped answering"
    return type(chain[-1]).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it was raised for, outermost first."""
    links: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        link = todo.pop(0)
        if isinstance(link, BaseException) and link not in links:
            links.append(link)
            todo += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
    return links
