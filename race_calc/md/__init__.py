"""The monitor on running ASE dynamics and optimisers."""
