"""Which neuron is which: names for the neurons of worms, from their activity and the wiring."""
