"""An LSTM decoder with soft attention over the memory.

Xu et al. 2015, 'Show, Attend and Tell': additive attention with a gate (4.2.1), deep output
(eq. 7), initial state from the mean of the memory. Letters as in `captioner.py`; H is the state
width, A the attention's, E the embedding's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.models.captioner import Decoder, Layout, Memory, State, Teaching
from pipeline.models.dropout import Dropout
from pipeline.models.linear import linear


@dataclass(frozen=True)
class LSTMState:
    """Keys and memory are kept once a picture; h and c once a beam."""

    memory: Memory
    keys_BSA: Tensor
    h: Tensor
    c: Tensor
    attention: Tensor | None = None

    def select(self, rows: Tensor) -> LSTMState:
        """Keep rows [K * W]; the memory is copied only when pictures leave."""
        pictures, width = self.memory.tokens_BSD.shape[0], self.h.shape[0] // len(self.keys_BSA)
        memory, keys = self.memory, self.keys_BSA
        if len(rows) != pictures * width:
            kept = rows[::width] // width
            memory, keys = memory.select(kept), keys.index_select(0, kept)
        return LSTMState(memory, keys, self.h.index_select(0, rows), self.c.index_select(0, rows))


class _Packing:
    """Where each (picture, caption, step) stands when steps are laid one after the other."""

    def __init__(self, at_BCT: Tensor) -> None:
        pictures, captions, steps = at_BCT.shape
        # Of each step, the captions up to the last that has this step or a later one; on the CPU,
        # where the answer is needed, and since MPS may lack cummax.
        later = at_BCT.any(0).cpu().flip(-1).cummax(-1).values.flip(-1)
        order = torch.arange(1, captions + 1)[:, None]
        self.columns: list[int] = (later * order).amax(0).tolist()
        while self.columns and self.columns[-1] == 0:
            self.columns.pop()
        self.sizes = [pictures * columns for columns in self.columns]
        self.places = torch.zeros((pictures, captions, steps), dtype=torch.long)
        start = 0
        for step, columns in enumerate(self.columns):
            block = torch.arange(start, start + pictures * columns).view(pictures, columns)
            self.places[:, :columns, step] = block
            start += pictures * columns
        self.places = self.places.to(at_BCT.device)

    def pack(self, values_BCT: Tensor) -> Tensor:
        """[B, C, T] as [P]."""
        steps = enumerate(self.columns)
        return torch.cat([values_BCT[:, :columns, step].flatten() for step, columns in steps])


class LSTMDecoder(Decoder):
    """Memory to captions, a word at a time."""

    def __init__(
        self,
        channels: int,
        layout: Layout,
        vocabulary: int,
        *,
        width: int,
        embedding: int,
        attention: int,
        dropout: float,
        pad: int = 0,
    ) -> None:
        """A decoder for tokens of `channels` that stand as `layout` says, random weights."""
        super().__init__()
        self.width = width
        # The memory: the tokens' channels in the embedding's width, with learned places, since a
        # convolution alone says little about left and right.
        self.bridge = nn.Sequential(nn.Linear(channels, embedding), nn.LayerNorm(embedding))
        self.place = nn.Parameter(torch.zeros(layout.tokens, embedding))
        self.keys = nn.Linear(embedding, attention)
        self.query = nn.Linear(width, attention, bias=False)
        self.energy = nn.Linear(attention, 1, bias=False)
        self.gate = nn.Linear(width, embedding)
        self.start = nn.Linear(embedding, 2 * width)
        self.embed = nn.Embedding(vocabulary, embedding, padding_idx=pad)
        self.from_word = nn.Linear(embedding, 4 * width)
        self.from_context = nn.Linear(embedding, 4 * width, bias=False)
        self.from_state = nn.Linear(width, 4 * width, bias=False)
        self.out_state = nn.Linear(width, embedding)
        self.out_context = nn.Linear(embedding, embedding, bias=False)
        self.out_bias = nn.Parameter(torch.zeros(vocabulary))
        self.drop = Dropout(dropout)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embed.weight, std=self.embed.embedding_dim**-0.5)
        nn.init.normal_(self.place, std=0.02)
        with torch.no_grad():
            self.embed.weight[self.embed.padding_idx].zero_()
            # A forget gate that starts open (Jozefowicz et al. 2015).
            self.from_word.bias[self.width : 2 * self.width].fill_(1.0)

    def remember(self, tokens_BSC: Tensor) -> Memory:
        """An encoder's tokens as memory tokens [B, S, E]."""
        return Memory(self.drop(self.bridge(tokens_BSC) + self.place))

    def _first(self, memory: Memory, width: int) -> tuple[Tensor, Tensor]:
        """H and c [B, width, H] before the first word."""
        start = torch.tanh(self.start(memory.tokens_BSD.mean(1)))[:, None].expand(-1, width, -1)
        h, c = start.chunk(2, -1)
        return h, c

    def _cell(
        self, word_gates: Tensor, h: Tensor, c: Tensor, memory: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step for [B, W] rows: new h, c, context [B, W, E] and attention [B, W, S]."""
        energy = self.energy(torch.tanh(keys[:, None] + self.query(h)[:, :, None])).squeeze(-1)
        attention = energy.softmax(-1)
        context = torch.sigmoid(self.gate(h)) * (attention @ memory)
        gates = word_gates + self.from_context(context) + self.from_state(h)
        take, forget, give, new = gates.chunk(4, -1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(take) * torch.tanh(new)
        h = torch.sigmoid(give) * torch.tanh(c)
        return h, c, context, attention

    def _logits(self, h: Tensor, context: Tensor, word: Tensor) -> Tensor:
        mixed = torch.tanh(self.out_state(self.drop(h)) + self.out_context(context) + word)
        return linear(self.drop(mixed), self.embed.weight, self.out_bias)

    def teach(
        self, memory: Memory, captions_BCT: Tensor, at_BCT: Tensor, attention: bool = False
    ) -> Teaching:
        """Logits after each prefix that is asked for; cheapest with a picture's captions long first.

        Positions are packed step after step, and a step takes only the leading captions that
        still have one: P of them in all, so that padding costs little.
        """
        plan = _Packing(at_BCT)
        tokens, keys = memory.tokens_BSD, self.keys(memory.tokens_BSD)
        words_PE = self.drop(self.embed(plan.pack(captions_BCT)))
        gates_P = self.from_word(words_PE).split(plan.sizes)
        h, c = self._first(memory, captions_BCT.shape[1])
        states, contexts, looks = [], [], []
        for gates, columns in zip(gates_P, plan.columns, strict=True):
            h, c, context, look = self._cell(
                gates.unflatten(0, (len(tokens), columns)),
                h[:, :columns],
                c[:, :columns],
                tokens,
                keys,
            )
            states.append(h.flatten(0, 1))
            contexts.append(context.flatten(0, 1))
            if attention:
                looks.append(look.flatten(0, 1))
        wanted = plan.places[at_BCT]
        h_MH, context_ME = torch.cat(states)[wanted], torch.cat(contexts)[wanted]
        logits = self._logits(h_MH, context_ME, words_PE[wanted])
        return Teaching(logits, torch.cat(looks)[wanted] if attention else None)

    def init_state(self, memory: Memory, width: int, max_len: int) -> LSTMState:
        """`width` equal rows a picture; no cache, so any length."""
        h, c = self._first(memory, width)
        return LSTMState(
            memory,
            self.keys(memory.tokens_BSD),
            h.flatten(0, 1).contiguous(),
            c.flatten(0, 1).contiguous(),
        )

    def step(self, tokens: Tensor, state: State, attention: bool) -> tuple[Tensor, LSTMState]:
        """One word [B * W] further."""
        assert isinstance(state, LSTMState)
        pictures = len(state.keys_BSA)
        word = self.embed(tokens)
        h, c, context, look = self._cell(
            self.from_word(word).unflatten(0, (pictures, -1)),
            state.h.unflatten(0, (pictures, -1)),
            state.c.unflatten(0, (pictures, -1)),
            state.memory.tokens_BSD,
            state.keys_BSA,
        )
        h, c = h.flatten(0, 1), c.flatten(0, 1)
        logits = self._logits(h, context.flatten(0, 1), word)
        seen = look.flatten(0, 1) if attention else None
        return logits, LSTMState(state.memory, state.keys_BSA, h, c, seen)
