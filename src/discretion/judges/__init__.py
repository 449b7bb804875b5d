"""Ways to ask for preferences: language models, reward models and policies, behind one small protocol."""
