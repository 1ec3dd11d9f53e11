"""How long decoding takes, measured and predicted from the machine's own rates (paper, section 4.4, Table 7)."""
