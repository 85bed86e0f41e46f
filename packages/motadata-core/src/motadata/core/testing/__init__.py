"""Conformance kits, fakes and servers with which an implementation proves that it fits."""
