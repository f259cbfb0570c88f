"""Ways to compute the operators, one file each. Kernels compute and check nothing."""
