"""Gives every package's tests the fixtures of `motadata.core.testing`."""

pytest_plugins = ["motadata.core.testing.plugin"]
