"""config.json of Hugging Face transformers and specs: one small table a family, read in both directions.

Everything here is plain data: a config as json reads it, and a spec before its validation. transformers is not
imported: its defaults are copied into the tables as data, and tests compare them with its config classes.
"""
