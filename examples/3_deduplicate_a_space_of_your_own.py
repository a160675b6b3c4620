"""Count, sample and deduplicate a search space that a grammar file describes."""

from pathlib import Path

import actsearch as acts

gates = acts.space(Path(__file__).with_name("gates.lark"))
print(f"{len(gates)} names, for example:")
for name in gates.sample(3, seed=0):
    print("   ", name)

classes = acts.deduplicate(gates)
print(f"{classes.count} different functions")
for number in range(classes.count):
    members = classes.members(number)
    if len(members) > 1:
        print("   ", " = ".join(str(member) for member in members))

# Why are two of them one? Each step of the chain carries its certificate.
for step in classes.why("x*(1 + tanh(x))/2", "x*sigmoid((2*x))"):
    print("   ", step)
