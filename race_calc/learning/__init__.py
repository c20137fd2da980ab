"""Runs that notice where the potential no longer knows, get labels there, learn and go on."""
