"""Training with discretion in mind: a differentiable form of what the audit measures. Its modules need torch."""
