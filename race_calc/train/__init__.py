"""From a configuration and data to a model folder."""
