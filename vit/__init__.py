"""Everything about the Vision Transformer that is the same in every framework. Importing it imports none of them."""

__version__ = "0.1.0"
