"""How measurements grow with ranks and parameters: what is measured, and the model of the cost that is fitted to it."""
