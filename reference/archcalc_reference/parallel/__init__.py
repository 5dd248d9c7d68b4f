"""Several ranks of one model: a plan as torch.distributed runs it, and training under one."""
