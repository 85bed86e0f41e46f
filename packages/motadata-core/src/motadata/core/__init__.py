"""motadata.core"""
