"""What a machine can run out of, told from defects of ours: room on its disks, files, processes, memory.

It exists because whatever does anything may meet it anywhere, at any call: whoever catches what he did not
expect says in one line what the machine lacks, and shows the trace of everything else. It must not know what
follows.
"""

from __future__ import annotations

import errno
import os

_NUMBERS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
        errno.ENOMEM,
    }
)


def lacking(error: BaseException) -> str | None:
    """What the machine lacks, and for which file; None if the error is of another kind.

    It says so in its own words, or in those of whoever knows what there is too little of.
    """
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        text = error.strerror or os.strerror(error.errno)
        return text if error.filename is None else f"{text}: {os.fsdecode(error.filename)}"
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return f"{os.strerror(errno.EAGAIN)}: {error}"
    return None
