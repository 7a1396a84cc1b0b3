"""Who asks a registry: a user's password, or a token.

It exists apart from what is done with them, since credentials are looked for where nothing is pulled. It must
not know whose they are, nor how a registry is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of a registry: by a password, or by a token as Docker's configuration has them.

    An `identity_token` buys the tokens that the registry wants; a `registry_token` is one.
    """

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
