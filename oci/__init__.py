"""From an image reference to verified files on disk. Knows neither pods nor processes."""
