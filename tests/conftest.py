"""One thread for every test: the models are tiny, and threads that wait for each other are slower than one that works."""

import torch

torch.set_num_threads(1)
