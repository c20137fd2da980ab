"""RACE: the network, its derivatives and its kernels."""
