"""Matrix-free operators: ``op @ v``."""
