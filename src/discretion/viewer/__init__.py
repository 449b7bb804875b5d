"""The case explorer: a web app on this machine over a saved audit, with the reviewers' rulings."""
