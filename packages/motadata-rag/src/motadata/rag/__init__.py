"""motadata.rag"""
