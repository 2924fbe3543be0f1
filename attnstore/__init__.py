"""What a text classifier looks at, by class: a whole dataset's attention as a Parquet store you can query."""

__version__ = "0.1.0"
