"""A stand-in for Terraform's AWS provider: the real one's schema, and just the calls that this repository's module needs.

It exists for machines that reach no provider registry. It refuses every endpoint but loopback, so it can never be mistaken
for the real one where it would matter. What it proves and what not is in the README.
"""
