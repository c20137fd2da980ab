"""The colours of all figures: those of Okabe and Ito, which all readers tell apart. Imports nothing."""

BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
COLOURS = (BLUE, ORANGE, VERMILION, "#CC79A7", "#009E73")  # of data sets; the first is in distribution
