"""The commands about images: what one holds, and how a file becomes one. No node is needed for them."""
