"""A pod's volumes on this node: made before its containers start, kept current, gone with it."""
