"""The tables of a knowledge base, as numbered SQL files that run once each, in order."""
