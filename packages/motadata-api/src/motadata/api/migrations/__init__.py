"""The tables of motadata-api, as numbered SQL files."""
