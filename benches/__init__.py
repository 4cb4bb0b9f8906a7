"""Benchmarks against the real daemon; see README.md."""
