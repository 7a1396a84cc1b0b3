"""The ways in which a file is exchanged that somebody follows."""

from __future__ import annotations

from pathlib import Path


def by_renaming(file: Path, content: str) -> None:
    other = file.with_name("other")
    other.write_text(content)
    other.rename(file)


def by_writing(file: Path, content: str) -> None:
    file.write_text(content)


def by_swapping_the_link(file: Path, content: str) -> None:
    """As Kubernetes does with what is mounted of a secret: FILE -> ..data/FILE, ..data -> ..NUMBER."""
    number = len([*file.parent.iterdir()])
    version = file.parent / f"..{number}"
    version.mkdir()
    (version / file.name).write_text(content)
    (file.parent / "..data_tmp").symlink_to(version.name)
    (file.parent / "..data_tmp").rename(file.parent / "..data")
    if not file.is_symlink():
        file.symlink_to(f"..data/{file.name}")
