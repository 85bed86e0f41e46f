"""Rules as data: content categories, signs of injection, ITIL practices, security advice."""
