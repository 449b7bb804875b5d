"""Beyond one machine: the same figures and the same judgements, made on a Ray cluster (extra `ray`)."""
