"""YAML and JSON as Kubernetes reads them, and what a hostile file can cost."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.pods.manifests import text
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.text import documents


def read(manifest: str) -> list[dict]:
    return documents(manifest.encode(), "pod.yaml")


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("a: yes\nb: Off\nc: ~\nd: ''\n", [{"a": True, "b": False, "d": ""}]),
        (
            "a: 0x1F\nb: 0o17\nc: 017\nd: 1_000\ne: -0b11\nf: 08\n",
            [{"a": 31, "b": 15, "c": 15, "d": 1000, "e": -3, "f": 8.0}],
        ),
        ("a: 1e3\nb: .5\nc: 1.\n", [{"a": 1000.0, "b": 0.5, "c": 1.0}]),
        # What YAML libraries read as dates and sexagesimal numbers is text in Kubernetes.
        ("a: 2024-01-01\nb: 1:30\nc: 12:30:45.5\n", [{"a": "2024-01-01", "b": "1:30", "c": "12:30:45.5"}]),
        ("a: '1'\nb: \"yes\"\nc: |\n  text\n", [{"a": "1", "b": "yes", "c": "text\n"}]),
        ("1: a\ntrue: b\n", [{"1": "a", "true": "b"}]),
        ("a: &x {q: 1, r: 2}\nb: {<<: *x, q: 3}\n", [{"a": {"q": 1, "r": 2}, "b": {"q": 3, "r": 2}}]),
        ("b: {<<: [{q: 1}, {q: 2, r: 3}]}\n", [{"b": {"q": 1, "r": 3}}]),
        ("a: <<\n'<<': b\n", [{"a": "<<", "<<": "b"}]),
        ("a: &x [1]\nb: *x\n", [{"a": [1], "b": [1]}]),
        ("a: !!str 1\nb: !!int '2'\nc: !!float 1\nd: ! 3\n", [{"a": "1", "b": 2, "c": 1, "d": "3"}]),
        ("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
        ("", []),
        ('{"a":\t[1, null], "b": null}', [{"a": [1, None]}]),
        ("{a: 1}", [{"a": 1}]),
    ],
)
def test_documents_are_what_kubernetes_reads(manifest, expected):
    assert read(manifest) == expected


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        ("a: [\n", "line 2: while parsing a flow node, did not find expected node content"),
        ("- 1\n", "expected an object, found a list"),
        ("hello\n", "expected an object, found a string"),
        ("a: &a [*a]\n", "line 1: the alias 'a' stands for nothing, or for what it is in"),
        ("a: *nobody\n", "line 1: the alias 'nobody' stands for nothing"),
        ("? [a]\n: b\n", "line 1: a key must be a string"),
        ("a: .inf\n", "line 1: .inf is no number in JSON"),
        ("a: !!python/object:os.system {}\n", "line 1: the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !!binary aGk=\n", "line 1: 'aGk=' cannot be read as 'tag:yaml.org,2002:binary'"),
        ("a: !!bool 1\n", "line 1: '1' cannot be read as"),
        ("a: {<<: 1}\n", "line 1: what `<<` merges must be a mapping"),
        ("a: \x00\n", "control characters are not allowed"),
        ("\ta: 1\n", "line 1: while scanning for the next token"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(manifest, complaint):
    with pytest.raises(ManifestError) as error:
        read(manifest)
    assert str(error.value).startswith("pod.yaml: ")
    assert complaint in str(error.value)


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ManifestError, match=r"^pod.yaml: "):
        documents(b"a: \xc3\x28", "pod.yaml")


@pytest.mark.parametrize(
    "manifest",
    [
        "a: " + "[" * 1_000_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)),
        "a0: &a0 {k: x}\n"
        + "".join(
            f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: *a{n - 1}}}\n" for n in range(1, 40)
        ),
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 1000)),
    ],
    ids=["open", "deep", "deep JSON", "laughs", "merged laughs", "deep aliases"],
)
def test_a_hostile_file_costs_no_more_than_its_size(manifest):
    began = time.process_time()
    with pytest.raises(ManifestError):
        read(manifest)
    assert time.process_time() - began < 20


def test_a_file_that_is_too_large_is_not_parsed():
    with pytest.raises(ManifestError, match="larger than"):
        documents(b" " * (text.LARGEST + 1), "pod.yaml")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_json_comes_back_as_it_was_written(value):
    assert documents(json.dumps(value).encode(), "pod.json") == [without_nulls(value)]


PRINTABLE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")))
SIMPLE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | PRINTABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PRINTABLE, inner, max_size=4),
    max_leaves=20,
)


class Quoted(yaml.SafeDumper):
    """Quotes every text: not every dumper knows which words another YAML takes for truth values."""


Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, '"'))


@given(st.dictionaries(PRINTABLE, SIMPLE, min_size=1, max_size=4))
def test_yaml_comes_back_as_it_was_written(value):
    assert read(yaml.dump(value, Dumper=Quoted, allow_unicode=True)) == [without_nulls(value)]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_documents_or_an_error_that_names_the_file(data):
    try:
        json.dumps(documents(data, "pod.yaml"))
    except ManifestError as error:
        named = str(error)
    else:
        return
    assert named.startswith("pod.yaml: ")
