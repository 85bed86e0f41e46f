"""motadata.gateway"""
