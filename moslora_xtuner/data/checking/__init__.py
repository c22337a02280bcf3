"""All records of a data set checked, reported, mended."""
