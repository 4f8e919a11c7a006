"""Extreme eigenvalues from products alone."""
