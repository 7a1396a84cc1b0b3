"""What becomes of each field that a pod's spec may have: one table, for admission, for people and for a test.

It exists so that no field is silently ignored: the documentation is generated from it, admission refuses what
it says is refused, and a test holds it against the API server's OpenAPI document.
"""
