"""`vkubelet play`: the pods of a file in the foreground, with no cluster, and nothing left in the end."""
