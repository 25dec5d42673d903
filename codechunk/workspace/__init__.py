"""Configuration become running parts."""
