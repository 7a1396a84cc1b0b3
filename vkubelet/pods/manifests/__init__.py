"""From the text that people write to pods: what an API server does to a manifest, for those who have none."""
