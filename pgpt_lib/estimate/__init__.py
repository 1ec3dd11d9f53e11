"""What a profile costs, on paper: parameters, memory, FLOP, hours, disk; and how far the paper is to be trusted."""
