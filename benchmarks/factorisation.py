"""Matrix factorisation from a library, kept up to date on a stream: implicit's alternating least squares.

Weighted ALS for implicit feedback (Hu, Koren & Volinsky, ICDM 2008) as ``implicit`` implements it. Everything liked so
far, clicked or organic, is factorised again after every so many likes, from the factors before on; a user's own factors
are solved anew for each request from all that he has liked up to then (``recalculate_user``), so that his last click
counts at once. A content that nobody has liked yet scores 0.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True)
class FactorisationSettings:
    """Settings of the factorisation: the best of the runs that docs/learning.md lists."""

    factors: int = 16
    """Length of a user's and of a content's vector."""
    regularisation: float = 10.0
    """Weight of the squared length of the vectors: with few likes a user, little is left of a weak one."""
    alpha: float = 4.0
    """Confidence in a like, where not having liked has 1."""
    refit_likes: int = 250
    """Likes between factorisations."""
    iterations: int = 3
    """Alternations of one factorisation; it goes on from the last one."""


class Factorisation:
    """A ranker by ⟨user, content⟩, for users and contents with ids below the given sizes."""

    def __init__(self, users: int, contents: int, settings: FactorisationSettings, seed: int = 0) -> None:
        self.settings = settings
        self.refits = 0
        self._shape = (users, contents)
        self._likes: dict[int, list[int]] = {}
        self._since = 0
        with threadpool_limits(1, "blas"):  # implicit warns of BLAS threads beside its own
            self._model = AlternatingLeastSquares(
                factors=settings.factors,
                regularization=settings.regularisation,
                alpha=settings.alpha,
                iterations=settings.iterations,
                num_threads=1,
                random_state=seed,
            )

    def scores(self, user_id: int, candidates: Sequence[int], now_s: int) -> NDArray[np.float32]:
        """Return ⟨user, content⟩ of each candidate; a user without likes gets the mean of all users."""
        del now_s
        if not self.refits:
            return np.zeros(len(candidates), np.float32)
        factors = self._model.item_factors[list(candidates)]
        scores: NDArray[np.float32] = factors @ self._user(user_id)
        return scores

    def shown(self, user_id: int, slate: Sequence[int], clicked: Collection[int], now_s: int) -> None:
        """Count each click as a like; what was not clicked is as unknown as what was not shown."""
        del slate
        for content_id in clicked:
            self.liked(user_id, content_id, now_s)

    def liked(self, user_id: int, content_id: int, now_s: int) -> None:
        """Take in one like, and factorise again when enough have come."""
        del now_s
        self._likes.setdefault(user_id, []).append(content_id)
        self._since += 1
        if self._since >= self.settings.refit_likes:
            self._refit()

    def _user(self, user_id: int) -> NDArray[np.float32]:
        likes = self._likes.get(user_id)
        if not likes:
            mean: NDArray[np.float32] = self._model.user_factors[list(self._likes)].mean(axis=0)
            return mean
        row = csr_matrix((np.ones(len(likes), np.float32), ([0] * len(likes), likes)), (1, self._shape[1]))
        own: NDArray[np.float32] = self._model.recalculate_user(user_id, row)
        return own

    def _refit(self) -> None:
        users = [user_id for user_id, likes in self._likes.items() for _ in likes]
        contents = [content_id for likes in self._likes.values() for content_id in likes]
        with threadpool_limits(1, "blas"):
            matrix = csr_matrix((np.ones(len(users), np.float32), (users, contents)), self._shape)
            self._model.fit(matrix, show_progress=False)
        self.refits += 1
        self._since = 0
