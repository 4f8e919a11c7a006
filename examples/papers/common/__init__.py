"""What the reproductions share: data, nets, the training of several seeds at once, statistics, and the files that are written."""
