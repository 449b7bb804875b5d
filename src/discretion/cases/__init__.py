"""Single cases: which ones a figure counts, which are worth reading, and how to show one."""
