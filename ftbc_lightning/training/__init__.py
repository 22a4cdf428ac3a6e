"""Lightning: the module, callbacks, checkpoints, the Trainer's own subcommands."""
