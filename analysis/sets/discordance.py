"""Images that one of two jobs has right and the other wrong: where a difference comes from."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.sets.comparison import Pairs
from analysis.sets.facts import SetFacts
from analysis.sets.images import named
from analysis.sets.schema_documents import Discordant, DiscordantImages
from analysis.sets.summary import Study

TOLD: Final = 48


def tell_discordant(
    facts: SetFacts, studied: Study, other: SetFacts, pairs: Pairs
) -> tuple[DiscordantImages, DiscordantImages]:
    """Images that `facts` alone has right at the final layers, and those that `other` alone has.

    Those first on which the wrong label leads by most over the second.
    """
    right, other_right = pairs.right[:, -1], pairs.other_right[:, -1]
    leads, own_leads = pairs.scores.margin[pairs.theirs], studied.scores.margin[pairs.mine]

    def tell(alone: NDArray[np.bool_], lead: NDArray[np.float32]) -> DiscordantImages:
        places = np.flatnonzero(alone)
        order = np.lexsort((places, -lead[places]))
        return DiscordantImages(
            count=len(places),
            items=[_told(facts, studied, other, pairs, place) for place in places[order[:TOLD]].tolist()],
        )

    return tell(right & ~other_right, leads), tell(~right & other_right, own_leads)


def _told(facts: SetFacts, studied: Study, other: SetFacts, pairs: Pairs, place: int) -> Discordant:
    row, other_row = int(pairs.mine[place]), int(pairs.theirs[place])
    return Discordant(
        **named(facts, row).model_dump(),
        true_label=facts.labels[pairs.truth[place]],
        top=facts.labels[studied.scores.top[row, -1]],
        other_top=other.labels[pairs.scores.top[other_row, -1]],
    )
