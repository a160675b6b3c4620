"""The LSTM policy over a grammar's components, and the driver that both of its learners share.

The policy writes one component a step, masked to what the grammar allows next, as the controller
of Ramachandran, Zoph and Le, *Searching for Activation Functions* (2017, arXiv 1710.05941).
"""

from __future__ import annotations

import base64
import math
import random
from abc import abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from actsearch.drivers.base import Driver, Space, SpaceExhausted
from actsearch.grammar.errors import UsageError
from actsearch.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

POLICY_ATTEMPTS, UNIFORM_ATTEMPTS = 5, 20
"""Batches that are sampled in search of a candidate that has not been proposed yet."""


@dataclass(frozen=True)
class Episode:
    """One sampled derivation.

    Attributes:
        index: the candidate, as a position in the space.
        actions: the component that was chosen at each step.
        allowed: the components that the grammar allowed at each step.
        log_probabilities: of each action, under the policy that sampled it.
    """

    index: int
    actions: tuple[int, ...]
    allowed: tuple[tuple[int, ...], ...]
    log_probabilities: tuple[float, ...]

    def to_list(self) -> list[Any]:
        """Plain lists for JSON."""
        return [self.index, self.actions, self.allowed, self.log_probabilities]

    @classmethod
    def from_list(cls, data: list[Any]) -> Episode:
        """The episode that `to_list` wrote."""
        index, actions, allowed, log_probabilities = data
        allowed = tuple(tuple(components) for components in allowed)
        return cls(index, tuple(actions), allowed, tuple(log_probabilities))


@dataclass(frozen=True)
class Batch:
    """Episodes as tensors, (episodes, steps) each, padded to the longest.

    Attributes:
        previous: the component before each step.
        actions: the component chosen.
        penalty: (episodes, steps, components), 0 for what is allowed and -inf for what is not.
        present: 1 where there is a step, 0 where a shorter episode has none.
        sampled: log-probability of the action under the policy that sampled it.
    """

    previous: Tensor
    actions: Tensor
    penalty: Tensor
    present: Tensor
    sampled: Tensor


class Policy:
    """An LSTM with one embedding in and one logit out for each component; float32 on one thread.

    Args:
        components: size of the vocabulary.
        hidden: size of the LSTM's state and of the embedding.
        learning_rate: of Adam.
        seed: of the initial weights, uniform in ±1/sqrt(hidden); the logits start at zero, so that
            the untrained policy chooses uniformly among what the grammar allows.
    """

    def __init__(self, components: int, hidden: int, learning_rate: float, seed: int) -> None:
        import torch
        from torch import nn

        self.components = components
        self.network = nn.ModuleDict(
            {
                "embedding": nn.Embedding(components + 1, hidden),  # the last row begins
                "lstm": nn.LSTM(hidden, hidden, batch_first=True),
                "logits": nn.Linear(hidden, components),
            }
        )
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(hidden)
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                if name.startswith("logits"):
                    weight.zero_()
                else:
                    weight.uniform_(-bound, bound, generator=generator)
        self.learning_rate = learning_rate
        self.updates = 0
        self.moments = {
            name: (torch.zeros_like(weight), torch.zeros_like(weight))
            for name, weight in self.network.named_parameters()
        }

    def __call__(self, previous: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (episodes, steps, components) after the previous components (episodes, steps)."""
        output, state = self.network["lstm"](self.network["embedding"](previous), state)
        return self.network["logits"](output), state

    def batch(self, episodes: list[Episode]) -> Batch:
        """The tensors of some episodes."""
        import torch

        shape = len(episodes), max(len(episode.actions) for episode in episodes)
        allowed = np.zeros((*shape, self.components), dtype=bool)
        actions = np.zeros(shape, dtype=np.int64)
        present = np.zeros(shape, dtype=np.float32)
        sampled = np.zeros(shape, dtype=np.float32)
        for row, episode in enumerate(episodes):
            length = len(episode.actions)
            actions[row, :length] = episode.actions
            present[row, :length] = 1
            sampled[row, :length] = episode.log_probabilities
            allowed[row, length:] = True
            for column, components in enumerate(episode.allowed):
                allowed[row, column, components] = True
        first = np.full((len(episodes), 1), self.components)
        penalty = np.where(allowed, np.float32(0), np.float32(-np.inf))
        arrays = np.hstack([first, actions[:, :-1]]), actions, penalty, present, sampled
        return Batch(*map(torch.from_numpy, arrays))

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the actions under the policy as it is, and entropies in nats.

        Both (episodes, steps), and 0 where there is no step.
        """
        import torch

        logits, _ = self(batch.previous)
        log_all = torch.log_softmax(logits + batch.penalty, dim=2)
        chosen = log_all.gather(2, batch.actions.unsqueeze(2)).squeeze(2)
        entropy = -(log_all.exp() * log_all.masked_fill(batch.penalty < 0, 0)).sum(2)
        return chosen * batch.present, entropy * batch.present

    def improve(self, loss: Tensor, clip_norm: float = 1.0) -> None:
        """One step down the loss, its gradient clipped to a norm: Kingma and Ba's Adam (2015).

        `torch.optim` would do the same, but loads torch's compiler, which takes seconds.
        """
        import torch

        weights = dict(self.network.named_parameters())
        gradients = torch.autograd.grad(loss, list(weights.values()))
        norm = torch.sqrt(sum((g.square().sum() for g in gradients), torch.tensor(0.0)))
        shrink = (clip_norm / norm.clamp(min=clip_norm)).item()
        self.updates += 1
        bias_1, bias_2 = 1 - 0.9**self.updates, 1 - 0.999**self.updates
        with torch.no_grad():
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                mean, square = self.moments[name]
                mean.lerp_(gradient * shrink, 0.1)
                square.lerp_((gradient * shrink).square(), 0.001)
                step = (square / bias_2).sqrt_().add_(1e-8)
                weight.addcdiv_(mean / bias_1, step, value=-self.learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """Weights and Adam's moments, bit for bit, as base64 of little-endian float32."""
        weights = {
            name: [_encode(weight), *map(_encode, self.moments[name])]
            for name, weight in self.network.named_parameters()
        }
        return {"updates": self.updates, "weights": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        import torch

        self.updates = state["updates"]
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                tensors = weight, *self.moments[name]
                for tensor, text in zip(tensors, state["weights"][name], strict=True):
                    tensor.copy_(_decode(text, tensor.shape))


def _encode(tensor: Tensor) -> str:
    return base64.b64encode(tensor.detach().numpy().astype("<f4").tobytes()).decode()


def _decode(text: str, shape: tuple[int, ...]) -> Tensor:
    import torch

    values = np.frombuffer(base64.b64decode(text), dtype="<f4")
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


class Controller(Driver):
    """A driver whose proposals are sampled from an LSTM policy; subclasses say how it learns.

    A batch is sampled, its rewards are awaited, the policy learns from them, and so on. While
    rewards are awaited, further proposals come from the policy as it is. A derivation that was
    proposed before is sampled anew, and proposed again only by a policy that knows no other.

    Args:
        batch: how many rewards make one update.
        hidden: size of the LSTM.
        learning_rate: of Adam.
        entropy: weight of the bonus for the policy's entropy (in nats a step, averaged).
        decay: of the exponential moving average that is the baseline.
        elites: how many of the best episodes so far are kept to imitate.
        imitation: weight of their log-likelihood (in nats a step, averaged), the priority queue
            of Abolafia et al. (2018, arXiv 1801.03526); 0 for the policy gradient alone.
    """

    epochs = 1
    """Gradient steps on each batch."""

    def __init__(
        self,
        space: Space,
        seed: int,
        batch: int = 8,
        hidden: int = 64,
        learning_rate: float = 0.02,
        entropy: float = 0.2,
        decay: float = 0.9,
        elites: int = 8,
        imitation: float = 2.0,
    ) -> None:
        super().__init__(space, seed)
        if not space.components:
            raise UsageError("this space leaves a controller nothing to choose")
        if batch < 1:
            raise UsageError(f"a batch has at least 1 reward, not {batch}")
        self.batch = batch
        self.entropy = entropy
        self.decay = decay
        self.elites = elites
        self.imitation = imitation
        self.policy = Policy(len(space.components), hidden, learning_rate, seed)
        self._masks: dict[bytes, tuple[int, ...]] = {}
        self._sampled: deque[Episode] = deque()
        self._awaited: list[Episode] = []
        self._told: list[tuple[Episode, float | None]] = []
        self._proposed: dict[int, None] = {}
        self._rewards: list[float] = []
        self._baseline = 1.0
        self._elites: list[tuple[float, Episode]] = []

    @abstractmethod
    def _gain(self, log_probabilities: Tensor, sampled: Tensor, advantages: Tensor) -> Tensor:
        """What the policy gradient climbs, for each step.

        Args:
            log_probabilities: (episodes, steps) of the actions under the policy as it is.
            sampled: the same under the policy that sampled them.
            advantages: (episodes, 1).
        """

    def _propose(self) -> int:
        if not self._sampled:
            self._fill()
        episode = self._sampled.popleft()
        self._proposed[episode.index] = None
        self._awaited.append(episode)
        return episode.index

    def _fill(self) -> None:
        """Sample a batch of what has not been proposed yet, as far as that can be found.

        A policy that samples nothing new learns that repeats are worthless, and if that does not
        help it is passed by: what the grammar allows is then chosen uniformly.
        """
        if len(self._proposed) == self.space.count():
            raise SpaceExhausted(self.space.count())
        for attempt in range(POLICY_ATTEMPTS + UNIFORM_ATTEMPTS):
            episodes = self._sample(self.batch, uniform=attempt >= POLICY_ATTEMPTS)
            new = {e.index: e for e in episodes if e.index not in self._proposed}
            if new:
                break
            if attempt < POLICY_ATTEMPTS:
                self._improve(episodes, [-self._baseline] * len(episodes), [])
        self._sampled.extend(new.values() or episodes[:1])

    def _sample(self, count: int, uniform: bool = False) -> list[Episode]:
        """Derivations under the policy as it is, or with uniform choices."""
        import torch

        walks = [self.space.walk() for _ in range(count)]
        steps: list[list[tuple[int, tuple[int, ...], float]]] = [[] for _ in walks]
        with one_thread(), torch.no_grad():
            token = torch.full((count, 1), self.policy.components)
            state = None
            while live := [row for row, walk in enumerate(walks) if not walk.finished]:
                logits, state = self.policy(token, state)
                masks = np.stack([walks[row].allowed for row in live])
                scores = logits[:, 0].numpy()[live] * (not uniform)
                drawn = _draw(scores, masks, self.random)
                for row, mask, component, log_probability in zip(live, masks, *drawn, strict=True):
                    walks[row].choose(component)
                    steps[row].append((component, self._allowed(mask), log_probability))
                    token[row, 0] = component
        return [
            Episode(walk.index, *(tuple(column) for column in zip(*taken, strict=True)))
            for walk, taken in zip(walks, steps, strict=True)
        ]

    def _allowed(self, mask: NDArray[np.bool_]) -> tuple[int, ...]:
        """The components of a mask; there are few different ones."""
        key = mask.tobytes()
        if key not in self._masks:
            self._masks[key] = tuple(np.flatnonzero(mask).tolist())
        return self._masks[key]

    def _learn(self, index: int, reward: float | None) -> None:
        place = next(k for k, episode in enumerate(self._awaited) if episode.index == index)
        told = self._awaited.pop(place)
        self._told.append((told, reward))
        if reward is not None:
            self._keep(reward, told)
        if len(self._told) == self.batch:
            episodes = [episode for episode, _ in self._told]
            rewards = [-math.inf if reward is None else reward for _, reward in self._told]
            self._told.clear()
            self._sampled.clear()
            elites = [episode for _, episode in self._elites]
            self._improve(episodes, self._advantages(rewards), elites)

    def _observe(self, index: int, reward: float | None) -> None:
        """A candidate of others is imitated where it is among the best; nobody sampled it."""
        self._proposed[index] = None
        if reward is None:
            return
        insort(self._rewards, reward)
        self._keep(reward, self._episode(index))

    def _episode(self, index: int) -> Episode:
        """The derivation of a candidate, as if it had been sampled."""
        walk = self.space.walk()
        allowed = []
        actions = self.space.walk_of(index)
        for component in actions:
            allowed.append(self._allowed(walk.allowed))
            walk.choose(component)
        return Episode(index, tuple(actions), tuple(allowed), (0.0,) * len(actions))

    def _revise(self, index: int, reward: float | None) -> None:
        """The elites are ordered anew; one that fell out because of noise does not return."""
        known = [episode for _, episode in self._elites if episode.index == index]
        self._elites = [elite for elite in self._elites if elite[1].index != index]
        if known and reward is not None:
            self._keep(reward, known[0])

    def _keep(self, reward: float, episode: Episode) -> None:
        self._elites = sorted([*self._elites, (reward, episode)], key=lambda elite: -elite[0])
        del self._elites[self.elites :]

    def _improve(
        self, episodes: list[Episode], advantages: list[float], elites: list[Episode]
    ) -> None:
        """Climb the gain of some episodes, the policy's entropy and the elites' likelihood."""
        import torch

        column = torch.tensor(advantages).unsqueeze(1)
        rows = len(episodes)
        batch = self.policy.batch(episodes + elites)
        steps, elite_steps = batch.present[:rows].sum(), batch.present[rows:].sum().clamp(min=1)
        with one_thread():
            for _ in range(self.epochs):
                chosen, entropy = self.policy.evaluate(batch)
                gain = self._gain(chosen[:rows], batch.sampled[:rows], column)
                gain = gain * batch.present[:rows] + self.entropy * entropy[:rows]
                imitated = self.imitation * chosen[rows:].sum() / elite_steps
                self.policy.improve(-gain.sum() / steps - imitated)

    def _advantages(self, rewards: list[float]) -> list[float]:
        """Utility less its moving average.

        The utility of a reward is -log(1 - q), where q is the share of all rewards so far that it
        exceeds (1 on average): the same for any monotone change of the reward's scale, and most
        attentive to the best. That of a failure is the lowest.
        """
        for reward in rewards:
            insort(self._rewards, reward)
        total = len(self._rewards)
        utilities = []
        for reward in rewards:
            below = bisect_left(self._rewards, reward)
            ties = bisect_right(self._rewards, reward) - below
            utilities.append(-math.log1p(-(below + ties / 2) / total))
        advantages = [utility - self._baseline for utility in utilities]
        mean = math.fsum(utilities) / len(utilities)
        self._baseline = self.decay * self._baseline + (1 - self.decay) * mean
        return advantages

    def _state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "sampled": [episode.to_list() for episode in self._sampled],
            "awaited": [episode.to_list() for episode in self._awaited],
            "told": [[episode.to_list(), reward] for episode, reward in self._told],
            "proposed": list(self._proposed),
            "rewards": list(map(_finite, self._rewards)),
            "baseline": self._baseline,
            "elites": [[reward, episode.to_list()] for reward, episode in self._elites],
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self._sampled = deque(map(Episode.from_list, state["sampled"]))
        self._awaited = [Episode.from_list(data) for data in state["awaited"]]
        self._told = [(Episode.from_list(data), reward) for data, reward in state["told"]]
        self._proposed = dict.fromkeys(state["proposed"])
        self._rewards = [-math.inf if r is None else r for r in state["rewards"]]
        self._baseline = state["baseline"]
        self._elites = [(reward, Episode.from_list(data)) for reward, data in state["elites"]]


def _finite(reward: float) -> float | None:
    return None if reward == -math.inf else reward


def _draw(
    logits: NDArray[np.float32], masks: NDArray[np.bool_], rng: random.Random
) -> tuple[list[int], list[float]]:
    """For each row one of the allowed columns, with probability softmax(logits), and its log."""
    scores = np.where(masks, logits.astype(np.float64), -np.inf)
    scores -= scores.max(axis=1, keepdims=True)
    bounds = np.cumsum(np.exp(scores), axis=1)
    totals = bounds[:, -1]
    points = np.array([rng.random() for _ in totals]) * totals
    points = np.minimum(points, np.nextafter(totals, 0))  # rounding must not reach the end
    chosen = np.argmax(bounds > points[:, None], axis=1)
    logs = scores[np.arange(len(chosen)), chosen] - np.log(totals)
    return chosen.tolist(), logs.tolist()
