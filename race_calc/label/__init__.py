"""Labels from reference methods: which there are, one structure, a whole file, geometries to label. No torch."""
