"""Text: tokenizers, chat templates, conversations."""
