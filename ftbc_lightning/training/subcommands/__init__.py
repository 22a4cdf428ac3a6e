"""One subcommand of the command line a file: a Trainer that has it as a method."""
