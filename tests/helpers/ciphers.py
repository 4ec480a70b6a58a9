"""Text tasks in which each letter is written as the one so many places on."""

from dataclasses import dataclass

import torch

from quickstudy.tasks.text_tasks import Pair, TextTask, TextTaskSource

LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Ciphers(TextTaskSource):
    shots: int = 4
    queries: int = 4
    longest: int = 4

    def draw(self, generator):
        shift = int(torch.randint(1, len(LETTERS), (), generator=generator))
        pairs, seen = [], set()
        while len(pairs) < self.shots + self.queries:
            length = int(torch.randint(1, self.longest + 1, (), generator=generator))
            numbers = torch.randint(len(LETTERS), (length,), generator=generator).tolist()
            word = "".join(LETTERS[number] for number in numbers)
            if word not in seen:
                seen.add(word)
                moved = "".join(LETTERS[(number + shift) % len(LETTERS)] for number in numbers)
                pairs.append(Pair(f"{word}>", moved))
        return TextTask(f"shift by {shift}", f"shift {shift}", tuple(pairs[: self.shots]), tuple(pairs[self.shots :]))
