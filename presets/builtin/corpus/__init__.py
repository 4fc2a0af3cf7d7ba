"""The training text: seeded generators of conversations, one file per skill, and what must never appear in them."""
