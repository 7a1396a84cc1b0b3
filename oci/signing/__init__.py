"""Which images a node takes: an administrator's policy, and the signatures that fulfil it.

It exists so that an image is believed for who has signed it, not for where it comes from. It must not know
pods, nor how an image is fetched or run.
"""
