"""The commands about images: what one holds, how a file becomes one, and which are in a node's store."""
