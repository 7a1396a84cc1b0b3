"""What the agent is doing at this moment, for whoever has to find out why it does not do something else."""
