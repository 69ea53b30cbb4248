"""What is looked for in source: one rule a file, with samples of what it finds and of what it must not find."""
