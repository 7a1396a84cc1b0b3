"""What was found in an image, as people read it."""

from __future__ import annotations

import pytest

from oci.artifact import ImageConfig
from oci.inspection import Inspection, Module, Part
from oci.spin import Application, Trigger
from vkubelet.images.show import lines, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_250_000, "1.2 MB"), (3 * 10**15, "3000.0 TB")],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


def test_everything_has_its_place() -> None:
    found = Inspection(
        name="r.io/app:v1",
        format="image",
        digest="sha256:1",
        platforms=["linux/amd64", "wasip1/wasm"],
        config=Part(media_type="a/config", digest="sha256:2", size=10),
        layers=[Part(media_type="a/layer", digest="sha256:3", size=2000)],
        run=ImageConfig(entrypoint=("/app.wasm",), cmd=("serve",), env=("A=1",), working_dir="/w", user="7"),
        module=Module(
            digest="sha256:3",
            size=2000,
            kind="WASI preview 1 command",
            imports=["wasi.a", "env.memory", "wasi.b", "wasi.a"],
            exports=["_start"],
        ),
    )
    assert list(lines(found, None)) == [
        "r.io/app:v1",
        "  format      image",
        "  digest      sha256:1",
        "  platforms   linux/amd64",
        "              wasip1/wasm",
        "  config      a/config  10 B  sha256:2",
        "  layers      a/layer  2.0 kB  sha256:3",
        "  runs as     /app.wasm serve",
        "              in /w",
        "              as user 7",
        "              A=1",
        "  module      WASI preview 1 command, 2.0 kB",
        "  imports     wasi: a, b",
        "              env: memory",
        "  exports     _start",
        "  runs here   yes",
    ]


def test_a_module_among_files_has_its_path() -> None:
    module = Module(digest="d", size=1, kind="component", imports=[], exports=[], path="/bin/app.wasm")
    found = Inspection(name="x", format="image with files", digest="d", module=module)
    assert "  module      /bin/app.wasm, component, 1 B" in list(lines(found, None))


def test_a_spin_application_tells_its_triggers() -> None:
    triggers = [Trigger("http", "web", "/..."), Trigger("redis", "", "")]
    application = Application(name="shop", version="1.2", triggers=triggers, components=["web"], files=3)
    found = Inspection(name="x", format="Spin application", digest="d", spin=application)
    assert list(lines(found, "not yet"))[3:] == [
        "  spin        shop 1.2",
        "              http /... web",
        "              redis",
        "              3 files in archives",
        "  runs here   no: not yet",
    ]


def test_a_components_imports_stay_what_they_are() -> None:
    module = Module(digest="d", size=1, kind="component", imports=["wasi:io/poll@0.2.0", "now"], exports=[])
    found = list(lines(Inspection(name="x", format="file", digest="d", module=module), "it is too large"))
    assert found[4:] == [
        "  imports     wasi:io/poll@0.2.0",
        "              now",
        "  runs here   no: it is too large",
    ]
