"""Any layers unpack to what a plain model of the rules says, and touch nothing else."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tars import Member, directory, hard, member, symbolic
from unpacking import Target

from oci.layers.errors import LayerError


class RefusedError(Exception):
    """The layers must not unpack."""


@dataclass
class Node:
    """A directory's names, a file's content (shared by its hard links) or a link's target; exactly one."""

    names: dict[str, Node] | None = None
    content: list[str] | None = None
    target: str | None = None
    own: bool = False
    """Made, or entered to make something in it, by the layer that is applied."""


@dataclass
class Model:
    """The rules of the image specification over nodes in memory, in which nothing can be outside."""

    root: Node = field(default_factory=lambda: Node(names={}))

    def apply(self, layer: list[Member]) -> None:
        self._disown(self.root)
        for info, content in layer:
            parts = [part for part in info.name.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise RefusedError
            if any(part.startswith(".wh.") for part in parts):
                self._whiteout(parts)
            elif info.isdir():
                self._directory(parts)
            elif not parts:
                raise RefusedError
            elif info.issym():
                self._place(parts, Node(target=info.linkname))
            elif info.islnk():
                self._hard_link(parts, info.linkname)
            elif info.isreg():
                self._place(parts, Node(content=[content.decode()]))
            else:
                self._parent(parts).pop(parts[-1], None)

    def names(self) -> dict[str, str]:
        found: dict[str, str] = {}

        def walk(node: Node, above: str) -> None:
            for name, below in (node.names or {}).items():
                path = f"{above}{name}"
                if below.names is not None:
                    found[path] = "dir"
                    walk(below, f"{path}/")
                else:
                    found[path] = f"-> {below.target}" if below.content is None else below.content[0]

        walk(self.root, "")
        return found

    def _disown(self, node: Node) -> None:
        node.own = False
        for below in (node.names or {}).values():
            self._disown(below)

    def _walk(self, parts: list[str], *, create: bool) -> list[Node] | None:
        """The directories on the way, the root first; None if something is missing and is not to be made."""
        way, left, links = [self.root], list(parts), 0
        while left:
            part = left.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                way = way[:-1] or way
                continue
            names = way[-1].names
            assert names is not None
            if part not in names:
                if not create:
                    return None
                names[part] = Node(names={})
            node = names[part]
            if node.target is not None:
                links += 1
                if links > 40:
                    raise RefusedError
                if node.target.startswith("/"):
                    way = [self.root]
                left = node.target.split("/") + left
            elif node.names is None:
                if create:
                    raise RefusedError
                return None
            else:
                way.append(node)
        return way

    def _parent(self, parts: list[str]) -> dict[str, Node]:
        way = self._walk(parts[:-1], create=True)
        assert way is not None
        for node in way:
            node.own = True
        assert way[-1].names is not None
        return way[-1].names

    def _place(self, parts: list[str], node: Node) -> None:
        names = self._parent(parts)
        names.pop(parts[-1], None)
        node.own = True
        names[parts[-1]] = node

    def _directory(self, parts: list[str]) -> None:
        if not parts:
            return
        names = self._parent(parts)
        there = names.get(parts[-1])
        if there is None or there.names is None:
            names[parts[-1]] = there = Node(names={})
        there.own = True

    def _hard_link(self, parts: list[str], target: str) -> None:
        to = [part for part in target.split("/") if part not in ("", ".")]
        if ".." in to or not to:
            raise RefusedError
        names = self._parent(parts)
        way = self._walk(to[:-1], create=False)
        found = (way[-1].names or {}).get(to[-1]) if way else None
        if found is None or found.names is not None or way is None:
            raise RefusedError
        if way[-1].names is names and to[-1] == parts[-1]:
            raise RefusedError
        if any(node is names.get(parts[-1]) for node in way):
            raise RefusedError
        # One file by two names, which layers own or do not own one by one.
        names[parts[-1]] = Node(content=found.content, target=found.target, own=True)

    def _whiteout(self, parts: list[str]) -> None:
        *above, name = parts
        if name == ".wh..wh..opq" and not any(part.startswith(".wh.") for part in above):
            way = self._walk(above, create=False)
            if way is not None:
                self._hide_below(way[-1])
        elif any(part.startswith(".wh..wh.") for part in parts):
            return
        elif any(part.startswith(".wh.") for part in above) or name in (".wh.", ".wh..", ".wh..."):
            raise RefusedError
        else:
            way = self._walk(above, create=False)
            if way is not None:
                self._hide(way[-1], name.removeprefix(".wh."))

    def _hide(self, directory: Node, name: str) -> None:
        assert directory.names is not None
        there = directory.names.get(name)
        if there is None:
            return
        if not there.own:
            del directory.names[name]
        elif there.names is not None:
            self._hide_below(there)

    def _hide_below(self, directory: Node) -> None:
        for name in list(directory.names or ()):
            self._hide(directory, name)


_PART = st.sampled_from(["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", "..", ".wh..", "."])
_PLAIN = st.sampled_from(["a", "b", "c"])
_NAME = st.one_of(
    st.lists(_PLAIN, min_size=1, max_size=3).map("/".join),
    st.lists(_PLAIN, max_size=2).flatmap(lambda above: _PART.map(lambda last: "/".join([*above, last]))),
    st.lists(_PLAIN, min_size=1, max_size=2).map(lambda parts: "/" + "/".join(parts)),
)
_TARGET = st.one_of(
    _NAME,
    st.sampled_from(
        ["..", "../..", "/", ".", "../sentinel", "../sentinel/kept", "{sentinel}", "{sentinel}/kept"]
    ),
    st.lists(st.sampled_from(["..", "a", "b"]), min_size=1, max_size=4).map("/".join),
)
_TEXT = st.text("xyz", max_size=3)
_MEMBER = st.one_of(
    st.builds(lambda name, text: member(name, text.encode()), _NAME, _TEXT),
    st.builds(directory, _NAME),
    st.builds(symbolic, _NAME, _TARGET),
    st.builds(hard, _NAME, _TARGET),
    st.builds(lambda name: member(name, type=b"3"), _NAME),
)
_LAYERS = st.lists(st.lists(_MEMBER, max_size=6), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(_LAYERS)
def test_layers_unpack_as_the_model_says(layers: list[list[Member]]) -> None:
    base = Path(tempfile.mkdtemp(prefix="vkubelet-layers-"))
    try:
        target = Target(base)
        for layer in layers:
            for info, _ in layer:
                info.linkname = info.linkname.replace("{sentinel}", str(target.sentinel))
        model, refused = Model(), False
        try:
            for layer in layers:
                model.apply(layer)
        except RefusedError:
            refused = True
        try:
            target.unpack(*layers)
        except LayerError:
            assert refused
        else:
            assert not refused
            assert target.names() == dict(sorted(model.names().items()))
        target.assert_untouched()
    finally:
        shutil.rmtree(base)
