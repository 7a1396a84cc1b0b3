"""`vkubelet doctor`: what of a node works on this machine, what does not, and what to do about it."""
