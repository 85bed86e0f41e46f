"""motadata.agents"""
