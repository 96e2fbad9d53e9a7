"""The configuration: one frozen model, read from a TOML file and the environment."""
