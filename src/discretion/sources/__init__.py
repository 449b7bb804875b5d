"""Files, folders and downloads that become comparisons, votes and whole studies."""
