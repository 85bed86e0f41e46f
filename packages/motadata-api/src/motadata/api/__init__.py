"""motadata.api"""
