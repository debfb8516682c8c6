"""Which known features of data sets go with misalignment, and a predictor made of them."""
