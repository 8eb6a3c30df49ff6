"""What counted phrases say of a note as a whole: latent semantic analysis.

The rarer a phrase, and the more sentences of a note it stands in, the more it counts (TF-IDF);
notes are brought to one length, and the directions in which train notes differ most are kept
(Deerwester et al., 1990, doi:10.1002/(SICI)1097-4571(199009)41:6<391::AID-ASI1>3.0.CO;2-9). Where a
word states what is asked for, this says so, however few labels there are.
"""

from clinical.modalities.contract import Statistics

import base64
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.utils.extmath import randomized_svd

SMALLEST = 1e-3
"""Of the strongest direction; below it is rounding."""


@dataclass(frozen=True)
class Topics:
    """Directions of weighed counts.

    Attributes:
        weight: [P] float32, of each phrase: more for a rarer one.
        directions: [P, K] float32.
        center: [K] float32, of the train notes.
    """

    weight: NDArray[np.float32]
    directions: NDArray[np.float32]
    center: NDArray[np.float32]

    @property
    def width(self) -> int:
        """K."""
        return int(self.directions.shape[1])

    @classmethod
    def fit(cls, counts: csr_matrix, *, width: int, seed: int) -> Self:
        """Of [R, P] sentences of each train note in which each phrase stands.

        Args:
            counts: as above.
            width: K at most; there are fewer where there are fewer notes or phrases.
            seed: of the decomposition.
        """
        n_notes, n_phrases = counts.shape
        used = np.bincount(counts.indices, minlength=n_phrases)
        weight = (np.log((1 + n_notes) / (1 + used)) + 1).astype(np.float32)
        width = min(width, n_notes - 1, n_phrases - 1)
        if width < 1:
            nothing = np.zeros((n_phrases, 0), dtype=np.float32)
            return cls(weight, nothing, np.zeros(0, dtype=np.float32))
        weighed = weigh(counts, weight)
        _, strength, found = randomized_svd(weighed, width, random_state=seed % 2**32)
        found = found[strength > SMALLEST * strength[0]]
        # They vary by 1 on average, so that layers can read them as they are.
        scale = 1 / max(float((weighed @ found.T).std(0).mean()), SMALLEST)
        directions = (scale * found.T).astype(np.float16).astype(np.float32)
        return cls(weight, directions, (weighed @ directions).mean(0))

    def apply(self, counts: csr_matrix) -> NDArray[np.float32]:
        """[R, P] -> [R, K]; zeros, as of an average note, where no phrase is known."""
        weighed = weigh(counts, self.weight)
        found: NDArray[np.float32] = weighed @ self.directions - self.center
        found[np.diff(weighed.indptr) == 0] = 0.0
        return found.astype(np.float32)

    def worth(
        self, counts: csr_matrix, gradient: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """What each phrase of one note [1, P] adds to the product of a gradient [K] and `apply`'s
        row, [P], and what is taken off for an average note."""
        weighed = weigh(counts, self.weight)
        if not weighed.nnz or not self.width:
            return np.zeros(counts.shape[1]), 0.0
        by_phrase = self.directions.astype(np.float64) @ gradient
        return weighed.toarray()[0] * by_phrase, float(self.center @ gradient)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the directions at half precision."""
        return {
            "weight": pack(self.weight),
            "directions": pack(self.directions.astype(np.float16)),
            "center": self.center.tolist(),
        }

    @classmethod
    def from_json(cls, plain: Statistics) -> Self:
        """What `to_json` gave."""
        weight, center = unpack(plain["weight"], np.float32), np.array(plain["center"], np.float32)
        directions = unpack(plain["directions"], np.float16).reshape(len(weight), len(center))
        return cls(weight, directions.astype(np.float32), center)


def pack(array: NDArray[Any]) -> str:
    """An array as text; its type and shape are not said."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def unpack(text: str, dtype: Any) -> NDArray[Any]:
    """The flat array that `pack` was given."""
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def weigh(counts: csr_matrix, weight: NDArray[np.float32]) -> csr_matrix:
    """[R, P] logarithms of counts times the phrases' weights, of length 1 a row."""
    grown = counts.astype(np.float32).sorted_indices()  # a sum's order shows in its last digits
    grown.data = 1 + np.log(grown.data)
    weighed = grown @ diags(weight)
    length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).reshape(-1))
    return csr_matrix(diags(1 / np.maximum(length, 1e-12)) @ weighed, dtype=np.float32)
