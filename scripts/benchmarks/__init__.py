"""What `scripts/bench chunkers` and `scripts/bench retrieval` are made of; none of it is part of the product."""
