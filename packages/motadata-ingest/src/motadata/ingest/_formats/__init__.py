"""One reader a format: bytes or text in, a draft of raw pieces out."""
