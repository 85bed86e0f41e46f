"""motadata.ingest"""
