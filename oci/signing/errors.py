"""What is wrong with a policy, or with one signature, before it is known which image that concerns.

It exists so that the parts that judge signatures need no image to talk about. It must not know any of them.
"""


class PolicyError(Exception):
    """A policy that cannot be used; the text names the field and the cause."""


class SignatureProblem(Exception):  # noqa: N818  one of several is no failure
    """One signature does not count, and why."""
