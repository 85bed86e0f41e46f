"""motadata.ml"""
