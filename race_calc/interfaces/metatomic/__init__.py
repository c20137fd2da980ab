"""A model as a file of metatomic: TorchScript modules made of the plan and the parameters. Only `served` and `export` need the package."""
