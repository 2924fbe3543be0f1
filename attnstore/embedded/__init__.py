"""The model and the reviews that `attnstore run` uses when it is given no others. See `README.md` beside them."""
