"""Write an activation as a string; get its exact gradient and a module that trains."""

import torch

import actsearch as acts

swish = acts.parse("x*sigmoid(beta*x); beta = 1.0 per channel lr 0.1")
print("the function:  ", swish)
for name, derivative in acts.gradient(swish).items():
    print(f"d/d{name}:".ljust(15), derivative)

# One beta for each of the 16 channels of a (batch, channel, length) tensor.
activation = acts.compile(swish, num_parameters=16)
x = torch.randn(8, 16, 32, requires_grad=True)
activation(x).square().mean().backward()
print("the module:    ", activation)
print("gradients:     ", tuple(x.grad.shape), tuple(activation.beta.grad.shape))

# Its parameters learn at a tenth of the weights' rate, and without weight decay.
network = torch.nn.Sequential(torch.nn.Conv1d(16, 16, 3), activation)
optimizer = torch.optim.AdamW(acts.parameter_groups(network, learning_rate=1e-3, weight_decay=0.01))
print("learning rates:", [group["lr"] for group in optimizer.param_groups])
