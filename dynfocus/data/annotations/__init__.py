"""Read annotation files of data sets into rows."""
