"""Sparse and shared weights as few bytes: codes, accounting and the compressed file."""
