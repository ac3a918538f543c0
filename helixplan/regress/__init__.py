"""Plan quality under CI: results of cases, what changed between two of them and why, suites and their gate."""
