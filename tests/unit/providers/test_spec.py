"""The spec's encoding in Python against its decoding in C, under each sanitizer."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.base import (
    Artifact,
    ContainerSpec,
    FileMount,
    Group,
    Identity,
    InvalidSpecError,
    ModuleKind,
    Preopen,
)
from providers.wasmtime import specs
from providers.wasmtime.files import CorruptFileError

from .conftest import NATIVE_TESTS, VARIANTS, build, native

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)
NAME = TEXT.filter(bool)


class Decoder:
    """The C decoder: one process for all examples."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def decode(self, data: bytes) -> list[str] | str:
        """The decoded fields, or what is wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack("<I", len(data)) + data)
        self._process.stdin.flush()
        (size,) = struct.unpack("<I", self._process.stdout.read(4))
        answer = self._process.stdout.read(size).decode(errors="surrogateescape")
        return answer[1:] if answer.startswith("!") else answer.split("\0")[:-1]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0


@pytest.fixture(scope="module", params=VARIANTS)
def decoder(request: pytest.FixtureRequest) -> Iterator[Decoder]:
    sources = [NATIVE_TESTS / "decode_spec.c", build.NATIVE / "spec.c"]
    decoder = Decoder(native("decode_spec", request.param, sources))
    yield decoder
    decoder.close()


def paths() -> st.SearchStrategy[Path]:
    return st.lists(NAME.filter(lambda name: "/" not in name and name not in {".", ".."}), min_size=1).map(
        lambda names: Path("/", *names)
    )


NUMBERS = st.integers(0, 2**32 - 2)
SPECS = st.builds(
    ContainerSpec,
    id=st.just("0" * 64),
    labels=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
    artifact=st.builds(Artifact, paths(), st.sampled_from(ModuleKind)),
    args=st.lists(TEXT, max_size=6).map(tuple),
    env=st.lists(st.tuples(NAME, TEXT), max_size=6).map(tuple),
    log_path=st.none() | paths(),
    working_dir=NAME,
    preopens=st.lists(st.builds(Preopen, paths(), NAME, st.booleans(), TEXT), max_size=4).map(tuple),
    memory_limit=st.none() | st.integers(0, 2**63 - 1),
    log_max_bytes=st.integers(1, 2**63 - 1),
    log_max_files=st.integers(1, 1_000_000),
    root=st.none() | paths(),
    stdin=st.booleans(),
    stdin_once=st.booleans(),
    tty=st.booleans(),
    attended=st.booleans(),
    network=st.booleans(),
    read_only_root=st.booleans(),
    files=st.lists(st.builds(FileMount, paths(), NAME, st.booleans(), TEXT), max_size=3).map(tuple),
    identity=st.none() | st.builds(Identity, NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=3).map(tuple)),
    stop_file=st.booleans(),
    cpu_limit=st.none() | st.integers(1, 10**9),
    cpu_request=st.none() | st.integers(0, 10**9),
    group=st.none()
    | st.builds(
        Group,
        st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True),
        st.none() | st.integers(0, 2**63 - 1),
        st.none() | st.integers(1, 10**9),
        st.none() | st.integers(0, 10**9),
        st.integers(0, 100),
        st.none() | st.integers(1, 10**6),
    ),
    oom_score_adj=st.none() | st.integers(-1000, 1000),
    runs=st.none() | st.integers(2, 1000),
)
FLAGS = {
    "input ": "stdin",
    "once ": "stdin_once",
    "terminal ": "tty",
    "attended ": "attended",
    "network ": "network",
    "read-only ": "read_only_root",
}
STOP = Path("/where/stop")
CGROUPS = (Path("/cgroup/cpu/a/tasks"), Path("/cgroup/memory/a/tasks"))
OWN = (Preopen(Path("/where/proc"), "/proc", read_only=True),)


def encode(spec: ContainerSpec) -> bytes:
    """The spec among what only the C side has to know."""
    return specs.encode(spec, STOP, CGROUPS, OWN)


def fields(
    spec: ContainerSpec, cgroups: tuple[Path, ...] = CGROUPS, own: tuple[Preopen, ...] = OWN
) -> list[str]:
    """What the C side must find in a spec."""
    env = list(spec.env)
    if "PWD" not in dict(env):
        env.append(("PWD", spec.working_dir))
    limit = -1 if spec.memory_limit is None else spec.memory_limit
    who = () if spec.identity is None else (spec.identity.uid, spec.identity.gid, *spec.identity.groups)
    return [
        *(spec.artifact.kind.value, str(spec.log_max_bytes), str(spec.log_max_files), str(limit)),
        "".join(text for text, name in FLAGS.items() if getattr(spec, name)),
        "".join(f"{number} " for number in who),
        *map(str, cgroups),
        "(none)" if spec.oom_score_adj is None else str(spec.oom_score_adj),
        str(spec.runs or 1),
        str(STOP) if spec.stop_file else "(none)",
        "protected" if any(file.read_only for file in spec.files) else "",
        *(str(path or "(none)") for path in (spec.artifact.path, spec.log_path, spec.root)),
        *spec.args,
        "",
        *(part for pair in env for part in pair),
        "",
        *(
            part
            for p in (*spec.preopens, *own)
            for part in ("ro" if p.read_only else "rw", str(p.host), p.guest, p.beneath)
        ),
    ]


@given(spec=SPECS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_c_finds_what_python_wrote(decoder: Decoder, spec: ContainerSpec) -> None:
    assert decoder.decode(encode(spec)) == fields(spec)


@given(spec=SPECS)
def test_a_later_agent_finds_the_whole_spec(spec: ContainerSpec) -> None:
    assert specs.decode(spec.id, encode(spec)) == spec


def test_a_spec_of_an_earlier_version_is_understood(decoder: Decoder) -> None:
    """As it was written before there were working directories, roots and terminals."""
    written = (
        'vkubelet container 1\0kmodule\0m/code\0l/log\0b100\0f5\0j{"pod": "a"}\0y65536\0r/host\0g/guest\0'
        "aguest\0aone\0nHOME\0v/\0nPWD\0v/data\0.\0"
    )
    spec = specs.decode("0" * 64, written.encode())
    assert spec == spec_with(
        labels={"pod": "a"},
        args=("guest", "one"),
        env=(("HOME", "/"), ("PWD", "/data")),
        preopens=(Preopen(Path("/host"), "/guest", read_only=True),),
        memory_limit=65536,
        log_max_bytes=100,
    )
    assert decoder.decode(written.encode()) == fields(spec, (), ())


@given(spec=SPECS, data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_cut_short_is_refused(decoder: Decoder, spec: ContainerSpec, data: st.DataObject) -> None:
    encoded = encode(spec)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    # A cut may fall right behind an argument that is a lone dot: it says "a." and never ".".
    assert isinstance(decoder.decode(cut), str)
    with pytest.raises(CorruptFileError):
        specs.decode(spec.id, cut)


@given(junk=st.binary(max_size=200))
def test_junk_is_refused_by_a_later_agent(junk: bytes) -> None:
    for data in (junk, encode(spec_with())[:-3] + b"\0" + junk + b"\0.\0"):
        with contextlib.suppress(CorruptFileError):
            assert isinstance(specs.decode("0" * 64, data), ContainerSpec)


@given(junk=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_junk_is_refused_and_harms_nobody(decoder: Decoder, junk: bytes) -> None:
    assert isinstance(decoder.decode(junk), str)
    decoder.decode(encode(spec_with())[:-3] + b"\0" + junk + b"\0.\0")
    assert decoder.decode(encode(spec_with())) == fields(spec_with())


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("a", "missing"),
        ("", "unknown field"),
        ("kscript", "unknown kind"),
        ("V", "unknown field"),
        ("nA\0nB\0vC", "name and a value"),
        ("vC", "name and a value"),
        ("w/a\0a", "host directory and a guest path"),
        ("g/a", "host directory and a guest path"),
        ("nA", "within a pair"),
        ("b0", "positive number"),
        ("b-1", "positive number"),
        ("b99999999999999999999", "positive number"),
        ("f0", "number of log files"),
        ("f1x", "number of log files"),
        ("y", "memory limit"),
        ("e1\0e", "number of the identity"),
        ("e4294967295", "number of the identity"),
        ("e1", "user without a group"),
        ("W/a\0g/b", "host directory and a guest path"),
        ("W/a\0a", "host file and a guest path"),
        ("G/a", "host file and a guest path"),
        ("R/a", "within a pair"),
        ("tyes", "more to it"),
    ],
)
def test_what_is_wrong_is_said(decoder: Decoder, body: str, wrong: str) -> None:
    answer = decoder.decode(f"{specs.FORMAT}\0{body}\0.\0".encode())
    assert isinstance(answer, str)
    assert wrong in answer


def spec_with(**changes: object) -> ContainerSpec:
    values: dict[str, object] = {"labels": {}, "args": (), "env": (), "log_path": Path("/log")}
    values |= changes
    artifact = Artifact(Path("/code"), ModuleKind.MODULE)
    return ContainerSpec(id="0" * 64, artifact=artifact, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"args": ("a", "b\0c")}, r"args\[1\]: holds a NUL"),
        ({"env": (("A", "\0"),)}, "env 'A': holds a NUL"),
        ({"args": ("\ud800",)}, r"args\[0\]: is not valid UTF-8"),
        ({"args": ("x" * (specs.ARGUMENTS_MAX + 1),)}, "args and env: .* bytes are more than"),
        ({"preopens": (Preopen(Path("/a"), "/b\0"),)}, "preopens: holds a NUL"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        encode(spec_with(**changes))
